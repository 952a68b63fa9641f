package wrapped

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/yubihsm/backup"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

const (
	wraps     = yubihsmtest.CanExportWrapped | yubihsmtest.CanImportWrapped
	delegates = reachtest.Signs | yubihsmtest.ExportableUnderWrap
)

var theWrapKey = bytes.Repeat([]byte{9}, 32)

// world has authentication keys and wrap keys for backups.
type world struct{ *reachtest.World }

// newPair is a world of devices that share wrap key 1. Authentication key 3 may export and
// import. The first one has the key 7.
func newPair(t *testing.T, n int) *world {
	w := &world{reachtest.New(t, n)}
	w.Command = func(a *provider.House) *cobra.Command {
		return cli.NewGroup("yubihsm", "", NewExport(a.App), NewRestore(a.App), NewClone(a.App))
	}
	for _, d := range w.Dev {
		w.keep(d, 3, wraps)
		w.wrap(d, 1, wraps, delegates, theWrapKey)
	}
	w.File("three", "three")
	w.exportable(w.Dev[0], 7, yubihsmtest.Ed25519, 1)
	return w
}

// keep puts an authentication key that may do this with keys under wrap into a device.
func (w *world) keep(d *yubihsmtest.Device, id uint16, can yubihsmtest.Capabilities) {
	d.Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: id, Algorithm: yubihsmtest.AES128Auth, Capabilities: can, Delegated: delegates}, []byte("three"))
}

func (w *world) wrap(d *yubihsmtest.Device, id uint16, can, delegated yubihsmtest.Capabilities, key []byte) {
	d.Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.WrapKey, ID: id, Algorithm: yubihsmtest.AES256CCM, Capabilities: can, Delegated: delegated}, key)
}

func (w *world) exportable(d *yubihsmtest.Device, id uint16, algorithm, fill byte) {
	d.Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: id, Algorithm: algorithm, Capabilities: delegates, Label: "validator", Domains: 1}, bytes.Repeat([]byte{fill}, 32))
}

// as are the flags of authentication key 3.
func (w *world) as(more ...string) []string {
	return append([]string{"--auth-key", "3", "--password-file", w.Path("three")}, more...)
}

func (w *world) exports(device int, more ...string) []string {
	return append(w.as("--device", w.Devices[device], "--key-id", "7", "--out", w.Path("backup")), append(more, "export")...)
}

func (w *world) restores(device int, file string, more ...string) []string {
	return append(w.as("--device", w.Devices[device]), append(more, "restore", file)...)
}

func (w *world) clones(more ...string) []string {
	args := w.as("--key-id", "7", "--sign-auth-key", "4", "--sign-password-file", w.Path("four"), "--device", w.Devices[0])
	for _, to := range w.Devices[1:] {
		args = append(args, "--to", to)
	}
	return append(args, append(more, "clone")...)
}

// public returns the key 7 of the first device as export prints it.
func (w *world) public() string {
	k, err := pubkey.New(pubkey.Ed25519, w.Dev[0].Public(w.T, 7))
	if err != nil {
		w.T.Fatal(err)
	}
	return k.Base64()
}

// A backup of ours is one that others read: its key opens with the wrap key. It goes onto
// another device once, and twice changes nothing.
func TestExportAndRestore(t *testing.T) {
	w := newPair(t, 2)
	w.Must("the key 0x0007 of the YubiHSM at "+w.Devices[0]+", under wrap key 0x0001\npublic key: "+w.public()+"\n", w.exports(0)...)
	if info, err := os.Stat(w.Path("backup")); err != nil || info.Mode() != 0o600 {
		t.Fatal(info, err)
	}
	blob, err := readBackup(w.Path("backup"), "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := backup.Open(theWrapKey, blob)
	if err != nil || b.ID != 7 || b.Label != "validator" || b.Key.PublicKey().Base64() != w.public() {
		t.Fatalf("%+v, %v", b, err)
	}
	restore := w.restores(1, w.Path("backup"), "--public-key", w.public())
	w.Must("restored: the key 0x0007 of the YubiHSM at "+w.Devices[1]+"\npublic key: "+w.public()+"\n", restore...)
	if got := w.Dev[1].Public(t, 7); !bytes.Equal(got, w.Dev[0].Public(t, 7)) {
		t.Errorf("the restored key is %x", got)
	}
	before := w.Objects()
	w.Must("nothing changed: the backup's id is taken, and this key is there already: the key 0x0007", restore...)
	w.Untouched(before)
	w.Refuses("is taken on the YubiHSM at "+w.Devices[1]+", and nothing is overwritten -> if the key may be there already, name it with --public-key", w.restores(1, w.Path("backup"))...)
	w.Dev[1].Swap(t, 7)
	w.Refuses(", and nothing is overwritten: the key there is not ed25519 ", restore...)
}

// What a key may not do, or a key that is not there, is said before there is a file; and a
// file that is there stays.
func TestExportRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(w *world)
		want   string
	}{
		"a key that stays": {func(w *world) { w.Provision(7, yubihsmtest.Ed25519, 1) },
			"the key 0x0007 of the YubiHSM at DEVICE may not be exported: it was made without the capability exportable-under-wrap, and nothing adds that later"},
		"no key":          {func(w *world) { w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7) }, "there is no asymmetric key 0x0007 of the YubiHSM at DEVICE"},
		"a key of P-256":  {func(w *world) { w.exportable(w.Dev[0], 7, yubihsmtest.P256, 1) }, "the key 0x0007 of the YubiHSM at DEVICE: "},
		"the signer":      {func(w *world) { w.keep(w.Dev[0], 3, reachtest.Signs) }, "authentication key 0x0003 of the YubiHSM at DEVICE may not do this: it lacks the capability export-wrapped -> name one"},
		"no wrap key":     {func(w *world) { w.Dev[0].Remove(yubihsmtest.WrapKey, 1) }, "there is no wrap key 0x0001 of the YubiHSM at DEVICE, in a domain of authentication key 0x0003 -> name another one with --wrap-key"},
		"a weak wrap key": {func(w *world) { w.wrap(w.Dev[0], 1, yubihsmtest.CanImportWrapped, delegates, theWrapKey) }, "wrap key 0x0001 of the YubiHSM at DEVICE is not for this: it lacks the capability export-wrapped"},
		"a poor wrap key": {func(w *world) { w.wrap(w.Dev[0], 1, wraps, reachtest.Signs, theWrapKey) }, "cannot wrap the key 0x0007: it lacks the delegated capability exportable-under-wrap -> "},
		"a file":          {func(w *world) { w.File("backup", "mine") }, "backup already exists, and nothing is overwritten"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPair(t, 1)
			tt.before(w)
			was, _ := os.ReadFile(w.Path("backup"))
			w.Refuses(strings.ReplaceAll(tt.want, "DEVICE", w.Devices[0]), w.exports(0)...)
			if is, _ := os.ReadFile(w.Path("backup")); !bytes.Equal(is, was) {
				t.Errorf("the file has %q", is)
			}
			if w.Dev[0].Count(yubihsmtest.ExportWrapped) != 0 {
				t.Error("the device was asked to export")
			}
		})
	}
}

// Nothing is restored of what is no backup, or not ours, or may not be.
func TestRestoreRefuses(t *testing.T) {
	w := newPair(t, 2)
	w.Must("wrote", w.exports(0)...)
	text, err := os.ReadFile(w.Path("backup"))
	if err != nil {
		t.Fatal(err)
	}
	blob, err := backup.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	file := func(blob []byte) string { return w.File("changed", string(backup.Encode(blob))) }
	w.Refuses("the backup is cut short: ", w.restores(1, file(blob[:len(blob)-1]))...)
	w.Refuses("the backup is not base64, or is cut short", w.restores(1, w.File("changed", string(text[:len(text)-3])))...)
	w.Refuses("it has more than ", w.restores(1, w.File("changed", strings.Repeat("A", maxBackup+1)))...)
	if w.Dev[1].Count(yubihsmtest.ImportWrapped) != 0 {
		t.Error("a device was asked to import what is no backup")
	}
	blob[20] ^= 1
	damaged := file(blob)
	w.Refuses("does not open the backup: it was made under another wrap key, or is damaged -> name the right one with --wrap-key", w.restores(1, damaged)...)
	ours := w.Path("backup")
	w.wrap(w.Dev[1], 1, wraps, delegates, bytes.Repeat([]byte{8}, 32))
	w.Refuses("wrap key 0x0001 of the YubiHSM at "+w.Devices[1]+" does not open the backup: it was made under another wrap key", w.restores(1, ours)...)
	w.wrap(w.Dev[1], 1, wraps, reachtest.Signs, theWrapKey)
	w.Refuses("may not import the key of the backup: a capability of the key is not among the delegated ones", w.restores(1, ours)...)
	w.wrap(w.Dev[1], 1, yubihsmtest.CanExportWrapped, delegates, theWrapKey)
	w.Refuses("is not for this: it lacks the capability import-wrapped", w.restores(1, ours)...)
	w.keep(w.Dev[1], 3, yubihsmtest.CanExportWrapped)
	w.Refuses("may not do this: it lacks the capability import-wrapped", w.restores(1, ours)...)
}

// What a backup was of shows when it is on the device, and is said.
func TestRestoreOfAnotherKind(t *testing.T) {
	w := newPair(t, 2)
	w.Must("wrote", w.exports(0)...)
	other, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Run(w.restores(1, w.Path("backup"), "--public-key", other.PublicKey().Base64())...); err == nil || !strings.Contains(err.Error(), "is that of another key: the key 0x0007 of ") {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		o    yubihsmtest.Object
		want string
	}{
		"opaque": {yubihsmtest.Object{Type: yubihsmtest.Opaque, ID: 8, Algorithm: yubihsmtest.OpaqueData, Capabilities: yubihsmtest.ExportableUnderWrap}, "it was of type opaque, and is object 0x0008 of "},
		"P-256":  {yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 9, Algorithm: yubihsmtest.P256, Capabilities: delegates}, "the backup is restored, and is not that of a key that signs votes: the key 0x0009 of "},
	} {
		secret := bytes.Repeat([]byte{1}, map[string]int{"opaque": 100, "P-256": 32}[name])
		w.Dev[0].Provision(t, tt.o, secret)
		l := reach.Login{ID: 3, File: w.Path("three")}
		var blob []byte
		err := l.Visit(t.Context(), w.Devices[0], func(ctx context.Context, s *hsm.Session) (err error) {
			blob, err = s.ExportWrapped(ctx, 1, hsm.ObjectType(tt.o.Type), tt.o.ID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Run(w.restores(1, w.File(name, string(backup.Encode(blob))))...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key is on all devices afterwards, of each type, and all sign alike.
func TestClone(t *testing.T) {
	for _, algorithm := range []byte{yubihsmtest.Ed25519, yubihsmtest.K256} {
		w := newPair(t, 3)
		w.exportable(w.Dev[0], 7, algorithm, 1)
		w.exportable(w.Dev[2], 7, algorithm, 1)
		is := "the key 0x0007 of the YubiHSM at "
		w.Must(is+w.Devices[1]+" is copied, and signs as the one at "+w.Devices[0]+"\n"+is+w.Devices[2]+" was there already, and signs as ", w.clones()...)
		if !bytes.Equal(w.Dev[0].Public(t, 7), w.Dev[1].Public(t, 7)) {
			t.Error("the copy is another key")
		}
		for i, d := range w.Dev {
			if n := d.Count(yubihsmtest.SignEdDSA) + d.Count(yubihsmtest.SignECDSA); n != 1 {
				t.Errorf("device %d has signed %d times", i, n)
			}
		}
	}
}

// With a config, the devices of a set become alike, and its own authentication key signs.
func TestCloneInASet(t *testing.T) {
	w := newPair(t, 1)
	w.Install(7)
	second := newPair(t, 2)
	second.Dev[1].Remove(yubihsmtest.AsymmetricKey, 7)
	path := filepath.Join(w.Home, "privyseal.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	both := strings.Replace(string(text), `"`+w.Devices[0]+`"`, `"`+w.Devices[0]+`", "`+second.Devices[1]+`"`, 1)
	if err := os.WriteFile(path, []byte(both), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Must("the key 0x0007 of the YubiHSM at "+second.Devices[1]+" is copied, and signs as the one at "+w.Devices[0], w.as("--key-id", "7", "clone")...)
	w.Must("wrote", w.as("--key-id", "7", "--out", w.Path("backup"), "export")...)
	second.Dev[1].Remove(yubihsmtest.AsymmetricKey, 7)
	w.Must("restored: the key 0x0007 of the YubiHSM at "+second.Devices[1], w.as("--public-key", w.public(), "restore", w.Path("backup"))...)
	w.Refuses("--yubihsm: there is no [yubihsm.other] in a config", w.as("--yubihsm", "other", "--key-id", "7", "clone")...)
}

// Nothing is copied where something is wrong with one of the devices.
func TestCloneRefuses(t *testing.T) {
	w := newPair(t, 3)
	w.exportable(w.Dev[2], 7, yubihsmtest.Ed25519, 2)
	w.Refuses("object 0x0007 of the YubiHSM at "+w.Devices[2]+" is taken: it is the key ed25519 ", w.clones()...)
	w.Dev[2].Remove(yubihsmtest.AsymmetricKey, 7)
	w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7)
	set := func(more ...string) []string {
		return append(w.as("--key-id", "7", "--sign-auth-key", "4", "--sign-password-file", w.Path("four"), "--device", w.Devices[0], "--device", w.Devices[1]), append(more, "clone")...)
	}
	w.Refuses("in a domain of authentication key 0x0003 -> if another one has the key, copy it from there: add `--device ADDRESS --to "+w.Devices[0]+"`", set()...)
	w.Refuses("there is no wrap key 0x0009 of the YubiHSM at "+w.Devices[0]+", in a domain of authentication key 0x0003 -> name another one with --wrap-key", set("--wrap-key", "9")...)
	for _, args := range [][]string{w.clones(), set("--wrap-key", "9")} {
		if out, err := w.Run(args...); err == nil || strings.Contains(err.Error(), "if another one") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	w.exportable(w.Dev[0], 7, yubihsmtest.Ed25519, 1)
	w.Refuses(w.Devices[0]+" and "+w.Devices[0]+" are the same device", w.clones("--to", w.Devices[0])...)
	w.wrap(w.Dev[1], 1, wraps, delegates, bytes.Repeat([]byte{8}, 32))
	w.Refuses("wrap key 0x0001 of the YubiHSM at "+w.Devices[1]+" does not open the backup", w.clones()...)
}

// A copy whose answer is lost is there, and the next try says so. One that breaks off before
// leaves nothing.
func TestCloneInterrupted(t *testing.T) {
	w := newPair(t, 2)
	w.Dev[1].Next(yubihsmtest.ImportWrapped, yubihsmtest.Drop())
	w.Refuses("cannot restore the backup on the YubiHSM at "+w.Devices[1]+": ", w.clones()...)
	w.Dev[1].Next(yubihsmtest.ImportWrapped, yubihsmtest.DropAnswer())
	if _, err := w.Run(w.clones()...); err == nil || !strings.Contains(err.Error(), "cannot restore the backup on the YubiHSM at "+w.Devices[1]+": ") {
		t.Error(err)
	}
	w.Must("was there already, and signs as the one at ", w.clones()...)
	w.Dev[1].Next(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature(), yubihsmtest.WrongSignature(), yubihsmtest.WrongSignature())
	w.Refuses(" was there already, and fails the comparison: ", w.clones()...)
}

// A device with the right public key that signs otherwise has another secret.
func TestCloneCompares(t *testing.T) {
	w := newPair(t, 2)
	changed, err := withOtherPrefix(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	other := &backup.Backup{Object: hsm.Object{ID: 7, Domains: 1, Algorithm: hsm.Ed25519, Capabilities: hsm.SignEdDSA | hsm.ExportableUnderWrap}, Key: changed}
	blob, err := other.Seal(theWrapKey)
	if err != nil {
		t.Fatal(err)
	}
	w.Must("restored", w.restores(1, w.File("other", string(backup.Encode(blob))))...)
	w.Refuses("the key 0x0007 of the YubiHSM at "+w.Devices[1]+" was there already, and fails the comparison: it signs otherwise than the YubiHSM at "+w.Devices[0], w.clones()...)
}

// Devices take another nonce for each signature of secp256k1, which is no reason to refuse a
// copy.
func TestCloneOfSecp256k1SignsWithOtherNonces(t *testing.T) {
	w := newPair(t, 2)
	w.exportable(w.Dev[0], 7, yubihsmtest.K256, 1)
	var nonce, secret, hash secp256k1.ModNScalar
	var point secp256k1.JacobianPoint
	nonce.SetInt(2)
	secret.SetByteSlice(bytes.Repeat([]byte{1}, 32))
	digest := sha256.Sum256([]byte(reach.NoVote))
	hash.SetByteSlice(digest[:])
	secp256k1.ScalarBaseMultNonConst(&nonce, &point)
	point.ToAffine()
	var r secp256k1.ModNScalar
	r.SetByteSlice(point.X.Bytes()[:])
	s := new(secp256k1.ModNScalar).Mul2(&r, &secret).Add(&hash).Mul(nonce.InverseNonConst())
	other := ecdsa.NewSignature(&r, s).Serialize()
	w.Dev[1].Next(yubihsmtest.SignECDSA, yubihsmtest.Spoil(func([]byte) []byte { return other }))
	w.Must("is copied, and signs as the one at ", w.clones()...)
}

// withOtherPrefix returns the key of a seed, but for what makes its nonces.
func withOtherPrefix(seed []byte) (*soft.Key, error) {
	h := sha512.Sum512(seed)
	h[0] &= 248
	h[31] = h[31]&127 | 64
	h[63] ^= 1
	return soft.FromSecret(pubkey.Ed25519, h[:])
}

// What the flags lack is said.
func TestBackupFlags(t *testing.T) {
	w := newPair(t, 1)
	for want, args := range map[string][]string{
		"--key-id is missing":        w.as("export"),
		"--out is missing":           w.as("--key-id", "7", "export"),
		"--auth-key is missing":      {"restore", "file"},
		"--password-file is missing": {"--auth-key", "3", "clone", "--key-id", "7"},
		"--device is missing: there is no [yubihsm.NAME] in a config of this home": w.as("restore", "file"),
		"--device is wrong: ":            w.as("--device", "ftp://x", "restore", "file"),
		"--to is wrong: ":                w.clones("--to", "ftp://x"),
		"--to is missing":                w.clones(),
		"--sign-auth-key is missing":     w.as("--key-id", "7", "--device", w.Devices[0], "clone"),
		"--sign-auth-key and --sign-pas": w.as("--key-id", "7", "--sign-auth-key", "4", "clone"),
		"--public-key: ":                 w.as("--public-key", "x", "restore", "file"),
		"no such file":                   w.restores(0, w.Path("none")),
	} {
		w.Refuses(want, args...)
	}
}

// Who has the 24 words of a device, and no backup, is shown what brings back that device, and
// no word is printed.
func TestRestoreFromWords(t *testing.T) {
	w := newPair(t, 1)
	list := strings.Fields(strings.Repeat("zebra ", wordsOfDevice))
	file := w.File("the words", strings.Join(list, "\n"))
	setup := "`privyseal yubihsm setup --restore --device "
	for want, args := range map[string][]string{
		"FILE is missing: the wrapped backup -> from the 24 words of a device: " + setup + "ADDRESS`":                                 w.as("restore"),
		"FILE is missing: the wrapped backup -> from the 24 words of a device: " + setup + w.Devices[0] + "`":                         {"restore", "--device", w.Devices[0]},
		"words of a device are secret, and go on no command line -> the terminal asks for them: " + setup + w.Devices[0] + "`":        append([]string{"restore", "--device", w.Devices[0]}, list...),
		file + " has 24 words, and is not a backup -> if they are the words of a device: " + setup + w.Devices[0] + " --words-file '": w.restores(0, file),
		"unexpected argument": {"restore", "one", "two"},
	} {
		w.Refuses(want, args...)
		if _, err := w.Run(args...); err == nil || strings.Contains(err.Error(), "zebra") {
			t.Errorf("%v", err)
		}
	}
}
