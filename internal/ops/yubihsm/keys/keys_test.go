package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/yubico"
)

// world is that of reachtest, whose administrator may have keys attested, in a folder of its
// own, with the certificates above each device.
type world struct{ *reachtest.World }

const attests = yubihsmtest.CanAttest | yubihsmtest.CanGetOpaque

func newWorld(t *testing.T, n int) world {
	t.Helper()
	w := world{reachtest.New(t, n)}
	w.Command = func(a *provider.House) *cobra.Command {
		return cli.NewGroup("yubihsm", "", NewGenerate(a.App), NewImport(a.App), NewAttest(a.App))
	}
	t.Chdir(w.Dir)
	w.administrator(reachtest.Makes|attests, reachtest.Makes, 0)
	for i, d := range w.Dev {
		root, middle := d.Root()
		for name, der := range map[string][]byte{"root": root.Raw, "sub-ca": middle.Raw} {
			w.File(fmt.Sprint(name, i), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		}
	}
	return w
}

// administrator gives authentication key 2 of all devices rights, in domains, 0 for all.
func (w world) administrator(can, delegated yubihsmtest.Capabilities, domains uint16) {
	w.T.Helper()
	for _, d := range w.Dev {
		d.Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth,
			Domains: domains, Capabilities: can, Delegated: delegated}, []byte("two"))
	}
}

// generate are the words that make a key, trusting the first device's root.
func (w world) generate(more ...string) []string {
	return append(w.AsAdministrator("generate", "--key-id", "7", "--root", "root0", "--sub-ca", "sub-ca0"), more...)
}

// imports are the words that import a file.
func (w world) imports(file string, more ...string) []string {
	return append(w.AsAdministrator("import", file, "--key-id", "7"), more...)
}

// key returns object 7 of a device.
func (w world) key(device int) yubihsmtest.Object {
	w.T.Helper()
	list := w.Dev[device].Objects()
	i := slices.IndexFunc(list, func(o yubihsmtest.Object) bool { return o.Type == yubihsmtest.AsymmetricKey && o.ID == 7 })
	if i < 0 {
		w.T.Fatalf("device %d has %+v", device, list)
	}
	return list[i]
}

func (w world) read(name string) []byte {
	w.T.Helper()
	data, err := os.ReadFile(w.Path(name))
	if err != nil {
		w.T.Fatal(err)
	}
	return data
}

// A key is made as tmkms makes one, but for its label, and cannot leave the device; what the
// device attests of it is saved.
func TestGenerate(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want yubihsmtest.Object
		says string
	}{
		{nil, yubihsmtest.Object{Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, "made in this device, and it cannot leave it"},
		{[]string{"--key-type", "secp256k1", "--label", "chain-1", "--domains", "2,16", "--exportable"},
			yubihsmtest.Object{Algorithm: yubihsmtest.K256, Label: "chain-1", Domains: 0x8002, Capabilities: yubihsmtest.CanSignECDSA | yubihsmtest.ExportableUnderWrap}, "made in this device, and it can leave it under a wrap key"},
	} {
		w := newWorld(t, 1)
		out, err := w.Run(w.generate(tt.args...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		tt.want.Type, tt.want.ID = yubihsmtest.AsymmetricKey, 7
		if got := w.key(0); got != tt.want {
			t.Errorf("%+v, want %+v", got, tt.want)
		}
		const file = "yubihsm-0012345678-0x0007.attestation"
		for _, want := range []string{"made the key 0x0007 of the YubiHSM at " + w.Devices[0] + "\npublic key: ",
			"saved " + file + ": YubiHSM 0012345678, firmware 2.4.0 attests key 0x0007: " + tt.says + "\n",
			"`privyseal init --provider yubihsm --yubihsm-take --yubihsm-key-id 0x0007 --fresh-state …`"} {
			if !strings.Contains(out, want) {
				t.Errorf("there is no %q in\n%s", want, out)
			}
		}
		if e, err := yubico.Parse(w.read(file)); err != nil || len(e.Between) != 1 {
			t.Errorf("the file has %d certificates between, %v", len(e.Between), err)
		}
	}
}

// Without an attestation a key needs no right to one, and nothing is written.
func TestGenerateWithoutAttestation(t *testing.T) {
	w := newWorld(t, 1)
	w.administrator(reachtest.Makes, reachtest.Makes, 0)
	w.Must("made the key 0x0007", w.AsAdministrator("generate", "--key-id", "7", "--no-attestation")...)
	if files, err := filepath.Glob("*.attestation"); err != nil || len(files) > 0 {
		t.Errorf("%q, %v", files, err)
	}
	w.key(0)
}

// What cannot be is said before a key is made.
func TestGenerateRefuses(t *testing.T) {
	cut := func(n int) func(world) { return func(w world) { w.File("root0", string(w.read("root0")[:n])) } }
	for name, tt := range map[string]struct {
		before func(w world)
		args   []string
		want   string
	}{
		"no id":                {nil, []string{"--key-id", "0"}, "--key-id is missing"},
		"no auth key":          {nil, []string{"--auth-key", "0"}, "--auth-key is missing: the object id of an authentication key that may make keys, 2 on a device"},
		"a long label":         {nil, []string{"--label", strings.Repeat("x", 41)}, "--label has 41 bytes, and a label up to 40"},
		"domain 17":            {nil, []string{"--domains", "1,17"}, "--domains 17 is not from 1 to 16"},
		"no domain":            {nil, []string{"--domains", ""}, `invalid argument "" for "--domains" flag`},
		"another type":         {nil, []string{"--key-type", "ml_dsa_65"}, "a YubiHSM signs with ed25519 and secp256k1 keys, and not with ml_dsa_65"},
		"no type":              {nil, []string{"--key-type", "x"}, "x"},
		"two wishes":           {nil, []string{"--no-attestation", "--out", "x"}, "--out is for an attestation, and --no-attestation for a key without one"},
		"no root":              {cut(0), nil, "--root root0: a root has to be one certificate in PEM"},
		"half a root":          {cut(200), nil, "--root root0: a root has to be one certificate in PEM"},
		"no sub-CA":            {nil, []string{"--sub-ca", "nope"}, "--sub-ca: open nope"},
		"the id is taken":      {func(w world) { w.Provision(7, yubihsmtest.P256, 1) }, nil, "object 0x0007 of the YubiHSM at "},
		"taken by a P-256 key": {func(w world) { w.Provision(7, yubihsmtest.P256, 1) }, nil, "is taken: it is a key of ecp256, and nothing is overwritten -> choose another --key-id"},
		"taken elsewhere": {func(w world) {
			w.administrator(reachtest.Makes|attests, reachtest.Makes, 1)
			w.Dev[0].Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 7, Algorithm: yubihsmtest.Ed25519, Domains: 8}, make([]byte, 32))
		}, nil, "is taken, in another domain than ours, and nothing is overwritten -> choose another --key-id"},
		"another password":       {func(w world) { w.File("two", "three") }, nil, "the password in "},
		"no such auth key":       {nil, []string{"--auth-key", "9"}, "has no authentication key 0x0009"},
		"no right to make":       {func(w world) { w.administrator(attests, reachtest.Makes, 0) }, nil, "may not make the key: it lacks the capability generate-asymmetric-key -> name one that may with --auth-key and --password-file"},
		"no right to hand on":    {func(w world) { w.administrator(reachtest.Makes|attests, yubihsmtest.CanSignECDSA, 0) }, nil, "it lacks the delegated capability sign-eddsa"},
		"no right to an export":  {func(w world) { w.administrator(reachtest.Makes|attests, yubihsmtest.CanSignEdDSA, 0) }, []string{"--exportable"}, "it lacks the delegated capability exportable-under-wrap"},
		"no right to attest":     {func(w world) { w.administrator(reachtest.Makes|yubihsmtest.CanGetOpaque, reachtest.Makes, 0) }, nil, "may not have the key attested: it lacks the capability sign-attestation-certificate -> name one that may with --auth-key and --password-file, or make the key without an attestation, with --no-attestation"},
		"no right to the device": {func(w world) { w.administrator(reachtest.Makes|yubihsmtest.CanAttest, reachtest.Makes, 0) }, nil, "it lacks the capability get-opaque"},
		"another domain":         {func(w world) { w.administrator(reachtest.Makes|attests, reachtest.Makes, 6) }, nil, "is not in domain 1, but in 2,3: choose others with --domains"},
		"no device":              {func(w world) { w.Dev[0].Unplug() }, nil, "reaches no device"},
		"a file that is there":   {func(w world) { w.File("there", "") }, []string{"--out", "there"}, "there already exists, and nothing is overwritten"},
		"a folder that is not":   {nil, []string{"--out", "nowhere/file"}, "nowhere/file: no such file or directory"},
		"another root": {func(w world) {
			stranger, _ := yubihsmtest.New(t, yubihsmtest.Options{Serial: 99}).Root()
			w.File("root0", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Raw})))
		}, nil, "attests would not verify: the certificate of the device does not lead to the root: "},
		"no certificate between": {func(w world) { w.File("sub-ca0", string(w.read("root0"))) }, nil,
			"whose certificate is not known here -> save that certificate, which is, if it is one of Yubico's, at https://developers.yubico.com/YubiHSM2/Concepts/"},
		"Yubico's root": {nil, []string{"--root=", "--sub-ca="}, "and name it with --sub-ca; or make the key without an attestation, with --no-attestation"},
		"the certificate of another device": {func(w world) {
			w.Dev[0].Next(yubihsmtest.GetDeviceInfo, yubihsmtest.Spoil(func(data []byte) []byte { data[6]++; return data }))
		}, nil, "no key is made: the YubiHSM at "},
		"a certificate that is not read": {func(w world) { w.Dev[0].Next(yubihsmtest.GetOpaque, yubihsmtest.Fails(yubihsmtest.StorageFailed)) }, nil, "no key is made: cannot read the certificate of the YubiHSM at "},
		"a file as folder":               {nil, []string{"--out", "two/file"}, "two/file: not a directory"},
		"a folder as file":               {nil, []string{"--out", "new/"}, "new/: is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			if tt.before != nil {
				tt.before(w)
			}
			w.Refuses(tt.want, w.generate(tt.args...)...)
			if files, err := filepath.Glob("*.attestation*"); err != nil || len(files) > 0 {
				t.Errorf("%q, %v", files, err)
			}
		})
	}
}

// A key of several devices is made on one, and goes to the others under wrap: the refusal
// has the commands.
func TestGenerateOnTwoDevices(t *testing.T) {
	w := newWorld(t, 2)
	w.Refuses(fmt.Sprintf("a key is made in one device, and 2 are meant -> make it on one with `privyseal yubihsm generate --key-id 0x0007 --exportable --device %[1]s --auth-key 2 --password-file %[2]s`, and bring it to the others with `privyseal yubihsm clone --key-id 0x0007 --device %[1]s --auth-key 2 --password-file %[2]s --to %[3]s …`",
		w.Devices[0], w.Path("two"), w.Devices[1]), w.generate()...)
}

// A key that was made and is not attested as it has to be is said to be there, with the
// command that attests it later; nothing is saved.
func TestMadeAndNotAttested(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(w world)
		args   []string
		want   string
	}{
		"a device that fails": {func(w world) {
			w.Dev[0].Next(yubihsmtest.SignAttestation, yubihsmtest.Fails(yubihsmtest.StorageFailed))
		}, nil, "cannot have the key 0x0007 of the YubiHSM at "},
		"a device that lies about itself": {func(w world) {
			w.Dev[0].Next(yubihsmtest.GetDeviceInfo, nil, yubihsmtest.Spoil(func(data []byte) []byte { data[6]++; return data }))
		}, nil, "has the number 0012345679, and what it attests is of YubiHSM 0012345678"},
		"a device that lies about the key": {func(w world) {
			_, other := w.KeyFile("other.key", pubkey.Ed25519)
			w.Dev[0].Next(yubihsmtest.GetPublicKey, yubihsmtest.Spoil(func(data []byte) []byte { return append(data[:1], other.PublicKey().Bytes()...) }))
		}, nil, "attests another key: 0x0007, "},
		"a file that is there meanwhile": {func(w world) {
			w.Dev[0].Next(yubihsmtest.SignAttestation, yubihsmtest.Spoil(func(data []byte) []byte { w.File("saved", "another"); return data }))
		}, nil, "saved already exists, and nothing is overwritten"},
		"a public key that is not read": {func(w world) {
			w.Dev[0].Next(yubihsmtest.GetPublicKey, yubihsmtest.Fails(yubihsmtest.StorageFailed))
		}, nil, "its attestation is not saved: the key 0x0007 of the YubiHSM at "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			tt.before(w)
			out, err := w.Run(w.generate(append(tt.args, "--out", "saved")...)...)
			if err == nil || out != "" {
				t.Fatalf("%v\n%s", err, out)
			}
			w.key(0)
			failed, next, _ := strings.Cut(err.Error(), "\n")
			again := fmt.Sprintf("`privyseal yubihsm attest --key-id 0x0007 --out saved --device %s --auth-key 2 --password-file %s --root root0 --sub-ca sub-ca0`", w.Devices[0], w.Path("two"))
			if !strings.HasPrefix(failed, "the key 0x0007 of the YubiHSM at "+w.Devices[0]+" is made, and stays; its attestation is not saved: ") || !strings.Contains(failed, tt.want) ||
				next != again {
				t.Errorf("%s\n%s\nwant %s", failed, next, tt.want)
			}
			if _, act := errors.AsType[cli.ActError](err); !act || errors.As(err, new(cli.UsageError)) {
				t.Errorf("%v waits for nobody", err)
			}
			if text, err := os.ReadFile("saved"); err == nil && string(text) != "another" {
				t.Errorf("saved is %q", text)
			}
		})
	}
}

// A key that its device says was imported, or that can leave it, is not the one that was made.
func TestAsMade(t *testing.T) {
	for _, tt := range []struct {
		origin     byte
		can        uint64
		exportable bool
		good       bool
	}{{1, 0, false, true}, {1, 1 << 16, true, true}, {1, 1 << 16, false, false}, {1, 0, true, false}, {2, 0, false, false}, {0x11, 0, false, false}} {
		err := Key{Exportable: tt.exportable}.asMade(&verify.Proof{Attestation: &yubico.Attestation{Origin: tt.origin, Capabilities: tt.can}})
		if (err == nil) != tt.good {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// When the answer of a device is lost, nobody knows whether the key is there, and it is said.
func TestMadePerhaps(t *testing.T) {
	w := newWorld(t, 1)
	w.Dev[0].Next(yubihsmtest.GenerateAsymmetric, yubihsmtest.UnpluggedWithin())
	if out, err := w.Run(w.generate()...); err == nil || out != "" || !strings.Contains(err.Error(), "it is not known whether the YubiHSM at "+w.Devices[0]+" has made the key: ") {
		t.Errorf("%v\n%s", err, out)
	}
	w.key(0)
}

// forms are the files of signers with one key of a type, by whose they are.
func forms(t *testing.T, typ pubkey.Type) map[string]string {
	t.Helper()
	secret := bytes.Repeat([]byte{9}, 32)
	key, err := soft.FromSecret(typ, secret)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	list := map[string]string{"ours": string(key.Encode()), "tmkms": b64(secret)}
	if typ == pubkey.Secp256k1 {
		list["cosmos/kms"] = hex.EncodeToString(secret)
		return list
	}
	both := append(bytes.Clone(secret), key.PublicKey().Bytes()...)
	list["cosmos/kms"] = b64(both)
	list["CometBFT"] = fmt.Sprintf(`{"address":"%X","pub_key":{"type":"tendermint/PubKeyEd25519","value":%q},"priv_key":{"type":"tendermint/PrivKeyEd25519","value":%q}}`,
		key.PublicKey().Address(), b64(key.PublicKey().Bytes()), b64(both))
	return list
}

// Every form of a key file that we read becomes the same key, and the file still has it.
func TestImport(t *testing.T) {
	for typ, want := range map[pubkey.Type]yubihsmtest.Object{
		pubkey.Ed25519:   {Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA},
		pubkey.Secp256k1: {Algorithm: yubihsmtest.K256, Capabilities: yubihsmtest.CanSignECDSA},
	} {
		want.Type, want.ID, want.Label, want.Domains = yubihsmtest.AsymmetricKey, 7, "chain-1", 1
		for name, form := range forms(t, typ) {
			w := newWorld(t, 1)
			path := w.File("old.key", form)
			out, err := w.Run(w.imports(path, "--label", "chain-1", "--key-type", string(typ))...)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
				continue
			}
			if got := w.key(0); got != want {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
			for _, part := range []string{"imported the key 0x0007 of the YubiHSM at " + w.Devices[0] + "\npublic key: ", path, publicText(t, typ),
				"`privyseal init --provider yubihsm --yubihsm-take --yubihsm-key-id 0x0007 --import-state FILE …`"} {
				if !strings.Contains(out, part) {
					t.Errorf("%s: there is no %q in\n%s", name, part, out)
				}
			}
		}
	}
}

// publicText is the public key of the forms.
func publicText(t *testing.T, typ pubkey.Type) string {
	t.Helper()
	key, err := soft.FromSecret(typ, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key.PublicKey().Base64()
}

// The same import again changes nothing, and one that was interrupted goes on.
func TestImportAgain(t *testing.T) {
	w := newWorld(t, 2)
	path, secret := w.KeyFile("old.key", pubkey.Secp256k1)
	w.Dev[1].Next(yubihsmtest.PutAsymmetricKey, yubihsmtest.Fails(yubihsmtest.StorageFailed))
	if _, err := w.Run(w.imports(path)...); err == nil || !strings.Contains(err.Error(), "storage failure") {
		t.Fatal(err)
	}
	out, err := w.Run(w.imports(path)...)
	if err != nil || !strings.HasPrefix(out, fmt.Sprintf("nothing changed: the device has the key 0x0007 of the YubiHSM at %s\nimported the key 0x0007 of the YubiHSM at %s\n", w.Devices[0], w.Devices[1])) {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, d := range w.Dev {
		x := secret.PublicKey().Bytes()[1:]
		if !bytes.HasPrefix(d.Public(t, 7), x) {
			t.Errorf("%x is not %x", d.Public(t, 7), x)
		}
	}
	before := w.Objects()
	if out, err := w.Run(w.imports(path)...); err != nil || strings.Count(out, "nothing changed") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	w.Untouched(before)
	w.Refuses("is the key of the file already, and it lacks the capability exportable-under-wrap, which nothing adds later", w.imports(path, "--exportable")...)
	// One who may not import can see that it is there.
	w.administrator(yubihsmtest.CanGetOpaque, 0, 0)
	w.Must("nothing changed", w.imports(path)...)
}

// What cannot be is said before a device has changed.
func TestImportRefuses(t *testing.T) {
	clamped := make([]byte, 64)
	clamped[31], clamped[32] = 64, 1
	for name, tt := range map[string]struct {
		before func(w world, path string)
		args   []string
		want   string
	}{
		"no id":     {nil, []string{"--key-id", "0"}, "--key-id is missing"},
		"no domain": {nil, []string{"--domains", "0"}, "--domains 0 is not from 1 to 16"},
		"no file":   {func(_ world, path string) { os.Remove(path) }, nil, "no such file"},
		"a file for all": {func(_ world, path string) { os.Chmod(path, 0o644) }, nil,
			"so that others may have read it"},
		"no key":       {func(w world, path string) { w.File("old.key", "hello") }, nil, "cannot import the key file"},
		"another type": {func(w world, path string) { os.Remove(path); w.KeyFile("old.key", pubkey.MLDSA65) }, nil, "a YubiHSM signs with ed25519 and secp256k1 keys, and not with ml_dsa_65"},
		"no seed": {func(w world, path string) { w.File("old.key", base64.StdEncoding.EncodeToString(clamped)) }, []string{"--key-type", "ed25519"},
			"a YubiHSM takes ed25519 keys that have their seed, and this one has none"},
		"taken by another key": {func(w world, _ string) { w.Provision(7, yubihsmtest.Ed25519, 1) }, nil, "is taken: it is the key ed25519 "},
		"taken on the second": {func(w world, _ string) {
			w.Provision(7, yubihsmtest.Ed25519, 1)
			w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7)
		}, nil, "and that of the file is ed25519 "},
		"taken by another type": {func(w world, _ string) { w.Provision(7, yubihsmtest.K256, 1) }, nil, "is taken: it is a key of eck256, and nothing is overwritten -> choose another --key-id"},
		"no right to import":    {func(w world, _ string) { w.administrator(yubihsmtest.CanGenerateAsymmetric, reachtest.Makes, 0) }, nil, "it lacks the capability put-asymmetric-key -> name one that may"},
		"no right to hand on":   {func(w world, _ string) { w.administrator(reachtest.Makes, 0, 0) }, nil, "it lacks the delegated capability sign-eddsa"},
		"another domain":        {func(w world, _ string) { w.administrator(reachtest.Makes, reachtest.Makes, 6) }, []string{"--domains", "2,5"}, "is not in domain 5, but in 2,3"},
		"one of two away":       {func(w world, _ string) { w.Dev[1].Unplug() }, nil, "reaches no device"},
		"the same twice":        {func(w world, _ string) { w.Devices[1] = strings.Replace(w.Devices[0], "127.0.0.1", "localhost", 1) }, nil, "are the same device, number 12345678"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			path, _ := w.KeyFile("old.key", pubkey.Ed25519)
			if tt.before != nil {
				tt.before(w, path)
			}
			w.Refuses(tt.want, w.imports(path, tt.args...)...)
		})
	}
}

// What a device has imported is compared with the file.
func TestImportedAnotherKey(t *testing.T) {
	w := newWorld(t, 1)
	path, _ := w.KeyFile("old.key", pubkey.Ed25519)
	_, other := w.KeyFile("other.key", pubkey.Ed25519)
	w.Dev[0].Next(yubihsmtest.GetPublicKey, yubihsmtest.Spoil(func(data []byte) []byte { return append(data[:1], other.PublicKey().Bytes()...) }))
	if _, err := w.Run(w.imports(path)...); err == nil || !strings.Contains(err.Error(), " has made the key ") {
		t.Error(err)
	}
}

// attest are the words that attest key 7, trusting the first device's root.
func (w world) attest(more ...string) []string {
	return append(w.AsAdministrator("attest", "--key-id", "7", "--root", "root0", "--sub-ca", "sub-ca0"), more...)
}

// A device attests what it has, and where the key is from is printed.
func TestAttest(t *testing.T) {
	w := newWorld(t, 1)
	w.Provision(7, yubihsmtest.Ed25519, 1)
	out, err := w.Run(w.attest("--out", "imported")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"saved imported\nNOT YUBICO", "YubiHSM 0012345678, firmware 2.4.0", "origin       imported in plain text\n", "capabilities sign-ecdsa,sign-eddsa\n", "base64      " + base64.StdEncoding.EncodeToString(w.Dev[0].Public(t, 7))} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	if info, err := os.Stat("imported"); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7)
	w.Must("made", w.generate()...)
	w.Refuses("yubihsm-0012345678-0x0007.attestation already exists, and nothing is overwritten", w.attest()...)
	w.Must("origin       made in this device\n", w.attest("--out", "made")...)
	if a, b := w.read("made"), w.read("yubihsm-0012345678-0x0007.attestation"); len(a) != len(b) && !bytes.Equal(a[len(a)-100:], b[len(b)-100:]) {
		t.Errorf("%s\n%s", a, b)
	}
}

// Of several devices each attests its own, into a file of its own.
func TestAttestOnTwoDevices(t *testing.T) {
	w := newWorld(t, 2)
	w.Provision(7, yubihsmtest.K256, 1)
	w.Refuses("--out is for one device, and 2 are meant: name one with --device", w.attest("--out", "x")...)
	out, err := w.Run(w.attest()...)
	if err == nil || !strings.Contains(err.Error(), "what the YubiHSM at "+w.Devices[1]+" attests does not verify") || !strings.Contains(out, "saved yubihsm-0012345678-0x0007.attestation") {
		t.Errorf("the second device has the first one's root: %v\n%s", err, out)
	}
	w.Devices = w.Devices[1:]
	w.Must("saved yubihsm-0012345679-0x0007.attestation", w.AsAdministrator("attest", "--key-id", "7", "--root", "root1", "--sub-ca", "sub-ca1")...)
}

// What is in the way is said, and nothing is saved.
func TestAttestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(w world)
		args   []string
		want   string
	}{
		"no id":               {nil, []string{"--key-id", "0"}, "--key-id is missing"},
		"no auth key":         {nil, []string{"--auth-key", "0"}, "--auth-key is missing"},
		"no root":             {nil, []string{"--root", "nope"}, "--root: open nope"},
		"no such key":         {func(w world) { w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7) }, nil, "there is no asymmetric key 0x0007 of the YubiHSM at "},
		"another type of key": {func(w world) { w.Provision(7, yubihsmtest.P256, 1) }, nil, "no chain signs with that"},
		"no right":            {func(w world) { w.administrator(yubihsmtest.CanGetOpaque, 0, 0) }, nil, "may not do this: it lacks the capability sign-attestation-certificate -> name one that may with --auth-key and --password-file"},
		"no right to the device": {func(w world) { w.administrator(yubihsmtest.CanAttest, 0, 0) }, nil,
			"may not do this: it lacks the capability get-opaque -> name one that may with --auth-key and --password-file"},
		"no device": {func(w world) { w.Dev[0].Unplug() }, nil, "reaches no device"},
		"no certificate": {func(w world) {
			w.Dev[0].Next(yubihsmtest.SignAttestation, yubihsmtest.Spoil(func(data []byte) []byte { return data[:20] }))
		}, nil, "cannot have the key 0x0007 of the YubiHSM at "},
		"half a device": {func(w world) {
			w.Dev[0].Next(yubihsmtest.GetOpaque, yubihsmtest.Spoil(func(data []byte) []byte { return data[:200] }))
		}, nil, "attests does not verify: a certificate is malformed"},
		"no certificate between": {func(w world) { w.File("sub-ca0", string(w.read("root0"))) }, nil, " --root root0 --sub-ca FILE`"},
		"a folder that isn't":    {nil, []string{"--out", "nowhere/file"}, "nowhere/file: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.Provision(7, yubihsmtest.Ed25519, 1)
			if tt.before != nil {
				tt.before(w)
			}
			w.Refuses(tt.want, w.attest(tt.args...)...)
			if files, err := filepath.Glob("*.attestation*"); err != nil || len(files) > 0 {
				t.Errorf("%q, %v", files, err)
			}
		})
	}
}
