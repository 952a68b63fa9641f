package recovery

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/home"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/ops/sgx/verify"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sgxtest"
)

// world is an enclave on the platform of a fake Intel, its files, and the holder's.
type world struct {
	*sgxtest.Intel
	t      *testing.T
	dir    string
	policy *policy.Policy
	sealer *sgxseal.Sealer
	wrap   []byte // the sealed wrap key
	said   claims.Claims
	public []byte // of the wrap key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	intel, err := sgxtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Intel: intel, t: t, dir: t.TempDir()}
	var out bytes.Buffer
	if err := makeKey(&out, io.Discard, w.path("recovery.key"), w.path("no device")); err != nil {
		t.Fatal(err)
	}
	w.use(strings.TrimSpace(out.String()))
	return w
}

// use gives the enclave a recovery key.
func (w *world) use(recoveryKey string) {
	w.t.Helper()
	w.policy = &policy.Policy{SGX: policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: recoveryKey}}
	if _, err := w.policy.Encode(); err != nil {
		w.t.Fatal(err)
	}
	var err error
	w.sealer, err = sgxseal.New(sgxseal.Config{Policy: w.policy, Key: func(string) ([]byte, error) { return []byte("the key of a CPU"), nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.wrap, w.public, err = w.sealer.WrapKey(); err != nil {
		w.t.Fatal(err)
	}
	w.said = claims.Claims{Purpose: claims.PurposeWrap, Boot: strings.Repeat("0f", 16), Seal: w.policy.Seal, Recipient: w.policy.Recipient().ID()}
	backup, err := w.sealer.Backup(testKey())
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("key.backup", backup)
}

func testKey() secret.Key {
	return secret.Key{ChainID: "chain-1", KeyType: "ed25519", Public: bytes.Repeat([]byte{7}, 32), Secret: secret.NewBytes(bytes.Repeat([]byte{5}, 32)), Origin: claims.Generated}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, data []byte) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// document writes that of a wrap key.
func (w *world) document() {
	w.t.Helper()
	data, err := w.said.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	d := document.Document{UserData: data, PublicKey: w.public}
	d.Quote, err = w.Quote(sgxtest.Enclave{MRENCLAVE: [32]byte{0xe1}, ReportData: document.ReportData(data, nil, w.public)})
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := d.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("wrap.b64", []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))
	text, err := w.Collateral()
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("collateral.json", text)
	w.write("root.pem", w.RootPEM())
}

// open runs the command, with flags in place of or beside the usual ones.
func (w *world) open(more ...string) (string, error) {
	w.t.Helper()
	os.Remove(w.path("external.key"))
	args := []string{w.path("key.backup"), "--recovery-key", w.path("recovery.key"), "--to", w.path("wrap.b64"), "--out", w.path("external.key"),
		"--collateral", w.path("collateral.json"), "--test-root", w.path("root.pem"), "--mrenclave", "e1" + strings.Repeat("00", 31)}
	return run(NewOpen(verify.Documents().Verifier()), append(args, more...)...)
}

func run(cmd *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage = true
	err := cmd.Execute()
	return out.String(), err
}

// external reads what was written, as tmkms-light reads its -e file.
func (w *world) external() []byte {
	w.t.Helper()
	var text string
	if err := json.Unmarshal(w.read("external.key"), &text); err != nil {
		w.t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != 296 {
		w.t.Fatalf("%d bytes, %v", len(raw), err)
	}
	return raw
}

// What the holder writes, the enclave opens: with a key of ours, and with one of RSA.
func TestOpenBackup(t *testing.T) {
	w := newWorld(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for kind, use := range map[string]func(){
		"X25519": func() {},
		"RSA": func() {
			w.write("recovery.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
			w.use(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})))
		},
	} {
		if kind == "X25519" {
			w = newWorld(t)
		}
		use()
		w.document()
		out, err := w.open("--backup-of", claims.EncodeKey(testKey().Public))
		if err != nil || !strings.Contains(out, `of chain "chain-1", for that enclave alone`) {
			t.Fatalf("%s: %s, %v", kind, out, err)
		}
		k, err := w.sealer.Recover(w.wrap, w.external(), w.read("key.backup"))
		if err != nil || !k.Secret.Equal(testKey().Secret) {
			t.Errorf("%s: %v, %v", kind, k, err)
		}
		if _, err := run(NewOpen(verify.Documents().Verifier()), w.path("key.backup"), "--recovery-key", w.path("recovery.key"), "--to", w.path("wrap.b64"), "--out", w.path("external.key"),
			"--collateral", w.path("collateral.json"), "--test-root", w.path("root.pem"), "--mrenclave", "e1"+strings.Repeat("00", 31)); err == nil || !strings.Contains(err.Error(), "external.key") {
			t.Errorf("%s: overwritten: %v", kind, err)
		}
	}
}

// What is printed to type next brings back what the backup is of.
func TestOpenBackupNext(t *testing.T) {
	w := newWorld(t)
	w.document()
	for chainID, next := range map[string]string{"chain-1": "--encrypted-key external.key\n", "": "--encrypted-key external.key --identity\n"} {
		k := testKey()
		k.ChainID = chainID
		backup, err := w.sealer.Backup(k)
		if err != nil {
			t.Fatal(err)
		}
		w.write("key.backup", backup)
		if out, err := w.open(); err != nil || !strings.HasSuffix(out, "  privyseal sgx recover "+next) {
			t.Errorf("%q: %s, %v", chainID, out, err)
		}
	}
}

// The host gives backup and document, and could give any. Nothing is written for what is not
// a wrap key of the enclave that the holder names, for his recovery key.
func TestOpenBackupRefuses(t *testing.T) {
	w := newWorld(t)
	usual := w.said
	other := newWorld(t)
	for _, c := range []struct {
		name string
		make func()
		args []string
		says string
	}{
		{"another enclave", nil, []string{"--mrenclave", "e2" + strings.Repeat("00", 31)}, "is not opened for"},
		{"just any enclave", nil, []string{"--any-enclave"}, "whatever program the host runs"},
		{"a document to import under", func() { w.said.Purpose = claims.PurposeImport }, nil, `not a document of ` + "`privyseal sgx cloud-wrap`" + `, but one for "import"`},
		{"an enclave with another recovery key", func() { w.said.Recipient = other.said.Recipient }, nil, "takes backups for the recovery key"},
		{"no document", func() { w.write("wrap.b64", []byte("hello")) }, nil, "is not a document of an SGX enclave"},
		{"another public key", nil, []string{"--backup-of", "AAAA"}, "not of AAAA"},
		{"another recovery key", nil, []string{"--recovery-key", other.path("recovery.key")}, "the backup is for the recovery key"},
		{"no recovery key", nil, []string{"--recovery-key", w.path("none")}, "cannot read the recovery key"},
		{"no out", nil, []string{"--out", ""}, "--out FILE is missing"},
		{"no document named", nil, []string{"--to", ""}, "--to DOCUMENT is missing"},
		{"no recovery key named", nil, []string{"--recovery-key", ""}, "--recovery-key FILE is missing"},
		{"a wrap key of another size", func() { w.public = []byte{1} }, nil, "the wrap key is malformed"},
	} {
		w.said = usual
		w.document()
		if c.make != nil {
			c.make()
			if c.name != "no document" {
				w.document()
			}
		}
		out, err := w.open(c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s, %v", c.name, out, err)
		}
		if _, err := os.Stat(w.path("external.key")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", c.name, err)
		}
	}
	if _, err := parseWrapKey(must(x509.MarshalPKIXPublicKey(&must(rsa.GenerateKey(rand.Reader, 3072)).PublicKey))); err == nil {
		t.Error("a wrap key of 3072 bits")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// With the recovery key in an HSM, the holder has it decrypt one part, and no private key is
// ever in a file.
func TestOpenBackupByAnHSM(t *testing.T) {
	w := newWorld(t)
	if _, err := w.open("--for-hsm"); err == nil || !strings.Contains(err.Error(), "which no HSM has") {
		t.Errorf("of X25519: %v", err)
	}
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	w.use(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&private.PublicKey))})))
	w.document()
	out, err := w.open("--for-hsm")
	if err != nil {
		t.Fatal(err)
	}
	kek, err := rsa.DecryptOAEP(sha256.New(), nil, private, must(base64.StdEncoding.DecodeString(strings.TrimSpace(out))), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"raw": kek, "base64": []byte(base64.StdEncoding.EncodeToString(kek) + "\n")} {
		path := w.write("kek", data)
		if _, err := w.open("--recovery-key", "", "--kek", path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if k, err := w.sealer.Recover(w.wrap, w.external(), w.read("key.backup")); err != nil || !k.Secret.Equal(testKey().Secret) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	if _, err := w.open("--kek", w.path("kek")); err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Error(err)
	}
	if _, err := w.open("--recovery-key", "", "--kek", w.write("short", []byte("AAAA"))); err == nil || !strings.Contains(err.Error(), "is not 32 bytes") {
		t.Error(err)
	}
}

// A backup that is cut off anywhere is one clear error.
func TestCutBackups(t *testing.T) {
	w := newWorld(t)
	w.document()
	whole := w.read("key.backup")
	for i := range whole {
		w.write("key.backup", whole[:i])
		if _, err := w.open(); err == nil || !strings.Contains(err.Error(), "not a backup of a key") || strings.Contains(err.Error(), "\n") {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
	}
}

// A recovery key is 0600, never overwritten, and read back as it is; damaged ones are refused.
func TestRecoveryKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "recovery.key")
	out, err := run(NewKey(), path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	r, err := readKey(path)
	if err != nil || !strings.Contains(out, publicText(r.X25519.PublicKey())) || !strings.Contains(out, r.Recipient().ID()) {
		t.Errorf("%s, %v", out, err)
	}
	before := must(os.ReadFile(path))
	if _, err := run(NewKey(), path); err == nil || !bytes.Equal(must(os.ReadFile(path)), before) {
		t.Errorf("overwritten: %v", err)
	}
	for i := range len(before) - 1 {
		if _, err := parseKey(before[:i]); err == nil {
			t.Errorf("the first %d bytes are a key", i)
		}
	}
	for name, text := range map[string]string{
		"two": string(before) + string(before), "PEM of nothing": "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "a certificate": "-----BEGIN CERTIFICATE-----\nAQ==\n-----END CERTIFICATE-----\n",
	} {
		if _, err := parseKey([]byte(text)); err == nil {
			t.Errorf("%s: a key", name)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(path); err == nil || !strings.Contains(err.Error(), "mode 0644") {
		t.Errorf("readable by others: %v", err)
	}
}

// Where enclaves run, or a validator's config is, is no place for it, and said to be.
func TestKeyNearEnclaves(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "keys")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	nowhere, device := filepath.Join(dir, "none"), filepath.Join(dir, "sgx_enclave")
	for name, c := range map[string]struct {
		make, device, says string
	}{
		"alone": {"", nowhere, ""}, "enclaves": {device, device, "this machine runs SGX enclaves"}, "a home": {filepath.Join(dir, "privyseal.toml"), nowhere, "a validator's config lies beside it"},
	} {
		if c.make != "" {
			if err := os.WriteFile(c.make, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var stderr bytes.Buffer
		if err := makeKey(io.Discard, &stderr, filepath.Join(sub, name), c.device); err != nil {
			t.Fatal(err)
		}
		if got := stderr.String(); strings.Contains(got, "warning") != (c.says != "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %s", name, got)
		}
		if c.make != "" {
			os.Remove(c.make)
		}
	}
}

// A verifier that accepts a bare quote gets no key out of the holder.
func TestBareQuote(t *testing.T) {
	w := newWorld(t)
	w.document()
	cmd := NewOpen(acceptsAll{})
	_, err := run(cmd, w.path("key.backup"), "--recovery-key", w.path("recovery.key"), "--to", w.path("key.backup"), "--out", w.path("external.key"))
	if err == nil || !strings.Contains(err.Error(), "no document of privyseal's enclave around it") {
		t.Error(err)
	}
}

type acceptsAll struct{}

func (acceptsAll) Add(*cobra.Command)                            {}
func (acceptsAll) Recognises([]byte) bool                        { return true }
func (acceptsAll) Verify(io.Writer, []byte, home.Expected) error { return nil }
