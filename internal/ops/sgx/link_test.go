package sgx

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/enclavekey"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sgxtest"
	"privyseal/internal/sgxhost"
)

// testWorld is a signed enclave in a folder, and the Intel that certifies its CPU.
type testWorld struct {
	t      *testing.T
	intel  *sgxtest.Intel
	signer *sgxtest.Signer
	policy *policy.Policy
	config Enclave
}

// signerOf makes one RSA key for all tests, which takes a while.
var signerOf = sync.OnceValues(sgxtest.NewSigner)

func newTestWorld(t *testing.T) *testWorld {
	t.Helper()
	intel, err := sgxtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signerOf()
	if err != nil {
		t.Fatal(err)
	}
	w := &testWorld{t: t, intel: intel, signer: signer, policy: &policy.Policy{SGX: newRecovery(t), AttestationRoot: string(intel.RootPEM())}, config: enclaves.New()}
	w.config.Folder = t.TempDir()
	collateral, err := intel.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	w.config.Collateral = filepath.Join(w.config.Folder, "platform.json")
	w.write("platform.json", collateral)
	w.sign(0)
	data, err := w.policy.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.write(policy.File, data)
	for _, file := range []string{sgxhost.ProgramFile, sgxhost.ManifestFile, sgxhost.SignedFile} {
		w.write(file, nil)
	}
	return w
}

func newRecovery(t *testing.T) policy.SGX {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: "hpke-x25519:" + base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())}
}

func (w *testWorld) write(name string, data []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.config.Folder, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// enclave is the one that is signed; flags are of its attributes beside INIT and MODE64BIT.
func (w *testWorld) enclave(flags byte) sgxtest.Enclave {
	return sgxtest.Enclave{MRENCLAVE: [32]byte{0xe1}, MRSIGNER: w.signer.MRSIGNER(), ProductID: 1, SVN: 1, Attributes: [16]byte{5 | flags}}
}

func (w *testWorld) sign(flags byte) {
	w.t.Helper()
	raw, err := w.signer.SigStruct(w.enclave(flags), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(sgxhost.SignatureFile, raw)
}

// link returns a conversation that has not begun, whose boot is "".
func (w *testWorld) link() *enclaveLink {
	w.t.Helper()
	f, err := readFolder(w.config.Folder)
	if err != nil {
		w.t.Fatal(err)
	}
	return &enclaveLink{config: w.config, folder: f}
}

// A document counts if it is of this enclave, this boot and this purpose.
func TestVerify(t *testing.T) {
	w := newTestWorld(t)
	stranger, err := sgxtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other := newRecovery(t)
	for _, c := range []struct {
		name   string
		change func(e *sgxtest.Enclave, cl *claims.Claims, d *document.Document)
		intel  *sgxtest.Intel
		blind  bool // there is no collateral
		wrong  string
	}{
		{name: "ours"},
		{name: "ours, without collateral", blind: true},
		{name: "another program", change: func(e *sgxtest.Enclave, _ *claims.Claims, _ *document.Document) { e.MRENCLAVE[1] = 1 }, wrong: "the quote is of the enclave e101"},
		{name: "another program, without collateral", blind: true, change: func(e *sgxtest.Enclave, _ *claims.Claims, _ *document.Document) { e.MRENCLAVE[1] = 1 }, wrong: "the quote is of the enclave e101"},
		{name: "another signer", change: func(e *sgxtest.Enclave, _ *claims.Claims, _ *document.Document) { e.MRSIGNER[1]++ }, wrong: "the quote is of the enclave"},
		{name: "in debug mode", change: func(e *sgxtest.Enclave, _ *claims.Claims, _ *document.Document) { e.Attributes[0] |= 2 }, wrong: "outside of debug mode"},
		{name: "a quote of another document", change: func(_ *sgxtest.Enclave, _ *claims.Claims, d *document.Document) { d.Nonce = []byte("another") }, wrong: "the quote is not of this document"},
		{name: "not certified by Intel", intel: stranger, wrong: "certificate"},
		{name: "another purpose", change: func(_ *sgxtest.Enclave, cl *claims.Claims, _ *document.Document) { cl.Purpose = claims.PurposeAttest }, wrong: `the document is for "attest"`},
		{name: "another boot", change: func(_ *sgxtest.Enclave, cl *claims.Claims, _ *document.Document) { cl.Boot = strings.Repeat("ab", 16) }, wrong: "of boot abab"},
		{name: "another seal", change: func(_ *sgxtest.Enclave, cl *claims.Claims, _ *document.Document) { cl.Seal = policy.SealMRSIGNER }, wrong: `seal "mrsigner"`},
		{name: "another recovery key", change: func(_ *sgxtest.Enclave, cl *claims.Claims, _ *document.Document) {
			cl.Recipient = (&policy.Policy{SGX: other}).Recipient().ID()
		}, wrong: "recovery key hpke-x25519:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := w.link()
			if c.blind {
				e.config.Collateral = ""
			}
			enclave, d := w.enclave(0), document.Document{}
			cl := claims.Claims{Purpose: claims.PurposeCreate, Seal: policy.SealMRENCLAVE, Recipient: w.policy.Recipient().ID()}
			after := func() {}
			if c.change != nil {
				before := d
				c.change(&enclave, &cl, &d)
				changed := d
				d, after = before, func() { d.Nonce = changed.Nonce }
			}
			var err error
			if d.UserData, err = cl.Encode(); err != nil {
				t.Fatal(err)
			}
			enclave.ReportData = document.ReportData(d.UserData, d.Nonce, nil)
			intel := w.intel
			if c.intel != nil {
				intel = c.intel
			}
			if d.Quote, err = intel.Quote(enclave); err != nil {
				t.Fatal(err)
			}
			after()
			raw, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Verify(raw, claims.PurposeCreate)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
		})
	}
}

// made is a key as an enclave with a policy seals and backs it up.
func made(t *testing.T, p *policy.Policy, chainID string, public byte) *enclavekey.Key {
	t.Helper()
	s, err := sgxseal.New(sgxseal.Config{Policy: p, Key: func(string) ([]byte, error) { return []byte("a key of a CPU!!"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	k := secret.Key{ChainID: chainID, KeyType: "ed25519", Public: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{public}, 32)).Public().(ed25519.PublicKey), Secret: secret.NewBytes(make([]byte, 32)), Origin: claims.Generated}
	created := &hostlink.Created{KeyType: k.KeyType, Public: k.Public}
	if created.Wrapped, err = s.Wrap(context.Background(), secret.AWS{}, k); err != nil {
		t.Fatal(err)
	}
	if created.Backup, err = s.Backup(k); err != nil {
		t.Fatal(err)
	}
	return &enclavekey.Key{Created: created, Claims: claims.Claims{Purpose: claims.PurposeCreate, Seal: p.Seal, Recipient: p.Recipient().ID()}}
}

// The files of a new key are of that key, and there is always a backup.
func TestWraps(t *testing.T) {
	w := newTestWorld(t)
	e := w.link()
	bySigner, otherHolder := *w.policy, *w.policy
	bySigner.Seal, otherHolder.SGX = policy.SealMRSIGNER, newRecovery(t)
	with := func(change func(k *enclavekey.Key)) *enclavekey.Key {
		k := made(t, w.policy, "chain-1", 1)
		change(k)
		return k
	}
	for name, c := range map[string]struct {
		key   *enclavekey.Key
		wrong string
	}{
		"ours":                 {with(func(*enclavekey.Key) {}), ""},
		"recovered":            {with(func(k *enclavekey.Key) { k.Backup, k.Claims.Purpose = nil, claims.PurposeRecover }), ""},
		"no backup":            {with(func(k *enclavekey.Key) { k.Backup = nil }), "not a backup"},
		"no sealed key":        {with(func(k *enclavekey.Key) { k.Wrapped = []byte("x") }), "not a sealed key"},
		"sealed for another":   {with(func(k *enclavekey.Key) { k.Wrapped = made(t, w.policy, "chain-2", 1).Wrapped }), "the sealed key is another one"},
		"another sealed":       {with(func(k *enclavekey.Key) { k.Wrapped = made(t, w.policy, "chain-1", 2).Wrapped }), "the sealed key is another one"},
		"sealed by the signer": {with(func(k *enclavekey.Key) { k.Wrapped = made(t, &bySigner, "chain-1", 1).Wrapped }), "the sealed key is another one"},
		"backup of another":    {with(func(k *enclavekey.Key) { k.Backup = made(t, w.policy, "chain-1", 2).Backup }), "the backup is of another key"},
		"backup of a chain":    {with(func(k *enclavekey.Key) { k.Backup = made(t, w.policy, "chain-2", 1).Backup }), "the backup is of another key"},
		"backup for another":   {with(func(k *enclavekey.Key) { k.Backup = made(t, &otherHolder, "chain-1", 1).Backup }), "for another recovery key"},
	} {
		err := e.Wraps("chain-1", c.key)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

// What a folder lacks is said before anything is launched.
func TestReadFolder(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *testWorld)
		wrong  string
	}{
		"whole":               {func(*testWorld) {}, ""},
		"not signed":          {func(w *testWorld) { os.Remove(filepath.Join(w.config.Folder, sgxhost.SignatureFile)) }, "gramine-sgx-sign"},
		"nothing":             {func(w *testWorld) { os.RemoveAll(w.config.Folder) }, "`privyseal sgx manifest`"},
		"a damaged signature": {func(w *testWorld) { w.write(sgxhost.SignatureFile, []byte("x")) }, "a SIGSTRUCT has 1808 bytes"},
		"signed for debug":    {func(w *testWorld) { w.sign(2) }, "is signed for debug mode"},
		"a policy of Nitro":   {func(w *testWorld) { w.write(policy.File, []byte(`{"kms_key":"x"}`)) }, policy.File},
		"no policy":           {func(w *testWorld) { os.Remove(filepath.Join(w.config.Folder, policy.File)) }, policy.File},
	} {
		w := newTestWorld(t)
		c.change(w)
		_, err := readFolder(w.config.Folder)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
	}
}

// A backup takes the place of the key that the home has, and of no other.
func TestExpect(t *testing.T) {
	w := newTestWorld(t)
	path := filepath.Join(w.config.Folder, "c.sealed")
	of := func(chainID string, public byte) sgxseal.Backup {
		b, err := sgxseal.InspectBackup(made(t, w.policy, chainID, public).Backup)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	attests := func(chainID string, public byte) []byte {
		said, err := claims.Claims{Purpose: claims.PurposeCreate, Chain: chainID, KeyType: "ed25519", Key: claims.EncodeKey(made(t, w.policy, chainID, public).Created.Public)}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := document.Document{Quote: []byte("a quote"), UserData: said}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return enclavekey.EncodeDocument(d)
	}
	for _, c := range []struct {
		name     string
		there    []byte
		document []byte
		backup   sgxseal.Backup
		wrong    string
	}{
		{"the same key", made(t, w.policy, "chain-1", 1).Wrapped, nil, of("chain-1", 1), ""},
		{"no file", nil, nil, of("chain-1", 1), ""},
		{"another key", made(t, w.policy, "chain-1", 2).Wrapped, nil, of("chain-1", 1), "name the backup of that key"},
		{"another chain", made(t, w.policy, "chain-1", 1).Wrapped, nil, of("chain-2", 1), `is of chain "chain-2"`},
		{"an identity", nil, nil, of("", 1), `is of chain ""`},
		{"a damaged file", []byte("x"), nil, of("chain-1", 1), "\nmove that file aside, and type this again"},
		{"a file of another provider", []byte("privyseal nitro key 1\n"), nil, of("chain-1", 1), "\ncorrect the path in the config"},
		{"a file of another chain", made(t, w.policy, "chain-2", 1).Wrapped, nil, of("chain-1", 1), "\ncorrect the path in the config"},
		{"no file, and its document", nil, attests("chain-1", 1), of("chain-1", 1), ""},
		{"no file, and the document of another key", nil, attests("chain-1", 2), of("chain-1", 1), "name the backup of that key"},
		{"no file, and the document of another chain", nil, attests("chain-2", 1), of("chain-1", 1), `of chain "chain-2"`},
		{"no file, and a damaged document", nil, []byte("x"), of("chain-1", 1), "\nput that file back"},
		{"no file, and a document of nothing", nil, enclavekey.EncodeDocument([]byte(document.Magic + strings.Repeat("\x00", 16))), of("chain-1", 1), "\nput that file back"},
		{"no file, and a document too large", nil, make([]byte, 2*document.MaxSize+1), of("chain-1", 1), "cannot read which key comes back"},
	} {
		for file, data := range map[string][]byte{path: c.there, enclavekey.DocumentPath(path): c.document} {
			os.Remove(file)
			if data != nil {
				w.write(filepath.Base(file), data)
			}
		}
		err := expect(path, "chain-1", c.backup, "b.backup")
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
	}
}

// What cannot be read for lack of a right is not damaged.
func TestUnread(t *testing.T) {
	for _, c := range []struct {
		err  error
		next string
	}{
		{cure.Add(fmt.Errorf("a: %w", fs.ErrPermission), "put the file back"), "type this as the user whom the file belongs to"},
		{cure.Add(fmt.Errorf("a: %w", sgxseal.ErrSealed), "put the file back"), "move that file aside, and type this again"},
		{errors.New("a: is a directory"), "correct the path in the config"},
	} {
		why, next := cure.Split(unread(c.err).Error())
		if !strings.HasPrefix(why, "a: ") || !strings.HasPrefix(next, c.next) || strings.Contains(next, "\n") {
			t.Errorf("%v: %q, %q", c.err, why, next)
		}
	}
}

// Nothing is overwritten: what was there stays, under another name each time.
func TestPutInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for i, want := range []string{"", path + ".old-1", path + ".old-2"} {
		old, err := putInPlace(path, []byte{byte('a' + i)})
		if err != nil || old != want {
			t.Fatalf("%q, %v, want %q", old, err, want)
		}
	}
	for name, want := range map[string]string{path: "c", path + ".old-1": "a", path + ".old-2": "b"} {
		if data, err := os.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("%s has %q, %v", name, data, err)
		}
	}
}

// What is in the way of a wrap key's files is found before an enclave is launched.
func TestFree(t *testing.T) {
	dir := t.TempDir()
	there, a, b, c := filepath.Join(dir, "there"), filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ sealedKey, out, public, wrong string }{
		{a, b, c, ""},
		{a, b, "", ""},
		{there, b, c, "--wrap-key: " + there + " already exists"},
		{a, there, c, "--out: " + there + " already exists"},
		{a, b, there, "--public-key: " + there + " already exists"},
		{a, a, c, "--out " + a + " is the file of another flag"},
		{a, b, filepath.Dir(b) + "/./b", "--public-key "},
	} {
		err := free(f.sealedKey, f.out, f.public)
		usage := cli.UsageError{}
		if f.wrong == "" && err != nil || f.wrong != "" && (!errors.As(err, &usage) || !strings.HasPrefix(err.Error(), f.wrong)) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
