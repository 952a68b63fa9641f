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
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/gcmsiv"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/key/soft"
	"privyseal/internal/kwp"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// bench is a folder with keys of validators and of recoveries.
type bench struct {
	*testing.T
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t, t.TempDir()}
	b.recoveryKey("recovery")
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(name string, data []byte, mode os.FileMode) string {
	b.Helper()
	os.Remove(b.path(name))
	if err := os.WriteFile(b.path(name), data, mode); err != nil {
		b.Fatal(err)
	}
	return b.path(name)
}

func (b *bench) read(name string) []byte {
	b.Helper()
	return must(os.ReadFile(b.path(name)))
}

// recoveryKey makes name.key and name.pub.
func (b *bench) recoveryKey(name string) {
	b.Helper()
	var public bytes.Buffer
	if err := makeKey(&public, io.Discard, b.path(name+".key"), b.path("no device")); err != nil {
		b.Fatal(err)
	}
	b.write(name+".pub", public.Bytes(), 0o644)
}

// rsaKey makes name.key and name.pub, in PEM.
func (b *bench) rsaKey(name string) *rsa.PrivateKey {
	b.Helper()
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	b.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(private))}), 0o600)
	b.write(name+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&private.PublicKey))}), 0o644)
	return private
}

// validator makes the key file of a validator.
func (b *bench) validator(t pubkey.Type) *soft.Key {
	b.Helper()
	key := must(soft.Generate(t))
	b.write("validator.key", key.Encode(), 0o600)
	return key
}

// enclave is a program in an enclave of a CPU, whose policy names a recovery key.
func (b *bench) enclave(name string) *sgxseal.Sealer {
	b.Helper()
	p := &policy.Policy{SGX: policy.SGX{Seal: policy.SealMRENCLAVE, RecoveryKey: must(ReadPublic(b.path(name + ".pub")))}}
	return must(sgxseal.New(sgxseal.Config{Policy: p, Key: func(string) ([]byte, error) { return []byte("the key of a CPU"), nil }}))
}

// opened opens a backup with a recovery key.
func (b *bench) opened(backup, name string) (secret.Key, error) {
	b.Helper()
	r, err := readKey(b.path(name + ".key"))
	if err != nil {
		b.Fatal(err)
	}
	file := b.read(backup)
	key, err := r.Key(file)
	if err != nil {
		return secret.Key{}, err
	}
	return sgxseal.OpenBackup(file, key)
}

var errNoSuch = errors.New("enclaves have no such keys")

// make runs the command; the names of files are those of the bench.
func (b *bench) make(line string) (string, error) {
	b.Helper()
	house := &provider.House{App: &cli.App{HomeFlag: b.path("home")}}
	has := func(t pubkey.Type) error {
		if pubkey.SignsInConstantTime(t) {
			return nil
		}
		return errNoSuch
	}
	words := strings.Fields(line)
	for i, w := range words {
		if i == 0 || strings.Contains(w, ".") {
			words[i] = b.path(w)
		}
	}
	return run(NewMake(house, has), words...)
}

const (
	fromOutside = "validator.key --to recovery.pub --chain-id chain-1 --out new.backup --state-out new.json"
	exchange    = "old.backup --recovery-key recovery.key --to next.pub --out new.backup"
)

// A key from outside comes into an enclave, which says forever that it was outside, with a
// state that only who has the key could make.
func TestMakeBackup(t *testing.T) {
	state := `{"height":"7","round":1,"step":2}`
	for _, typ := range []pubkey.Type{pubkey.Ed25519, pubkey.MLDSA65} {
		for _, recovery := range []string{"recovery", "rsa"} {
			for words, want := range map[string]watermark.Mark{
				"--import-state old.json --yes": {Height: 7, Round: 1, Step: watermark.StepPrevote},
				"--fresh-state":                 {},
				"--after-height 90 --yes":       watermark.Floor(90),
			} {
				b := newBench(t)
				b.rsaKey("rsa")
				key := b.validator(typ)
				b.write("old.json", []byte(state), 0o600)
				before := time.Now().Add(-time.Second)
				out, err := b.make(strings.Replace(fromOutside, "recovery.pub", recovery+".pub", 1) + " " + words)
				if err != nil {
					t.Fatalf("%s, %s, %s: %s, %v", typ, recovery, words, out, err)
				}
				k, err := b.opened("new.backup", recovery)
				if err != nil || k.ChainID != "chain-1" || k.KeyType != string(typ) || k.Origin != claims.Imported || !bytes.Equal(k.Public, key.PublicKey().Bytes()) ||
					!bytes.Equal(k.Secret.Reveal(), key.Secret()) || k.Created.Before(before.Truncate(time.Second)) {
					t.Errorf("%s, %s, %s: %v, %v", typ, recovery, words, k, err)
				}
				got := must(home.ReadState(b.path("new.json"), "chain-1", key.PublicKey()))
				record, err := must(hostlink.RecordKey(key)).Open(watermark.ID{ChainID: "chain-1", Key: key.PublicKey().ID()}, got.Mark.SignBytes)
				if err != nil || !record.Mark.Equal(want) || record.Boot != [16]byte{} || record.Seq != hostlink.FirstSeq(record.Time) || record.Time.Before(before) {
					t.Errorf("%s, %s: %+v, %v", typ, words, record, err)
				}
				if own := must(hostlink.HostMark(got.Mark.SignBytes)); !own.Equal(got.Mark) {
					t.Errorf("%s: at %v, with a record of %v", words, got.Mark, own)
				}
				b.nothingPlain(key.Secret(), out)
				for _, name := range []string{"new.backup", "new.json"} {
					if info := must(os.Stat(b.path(name))); info.Mode().Perm() != 0o600 {
						t.Errorf("%s: mode %v", name, info.Mode())
					}
				}
			}
		}
	}
}

// nothingPlain looks for the secret in all that was made, and in what was printed.
func (b *bench) nothingPlain(plain []byte, out string) {
	b.Helper()
	texts := map[string]string{"output": out}
	for _, e := range must(os.ReadDir(b.dir)) {
		if e.Name() != "validator.key" {
			texts[e.Name()] = string(b.read(e.Name()))
		}
	}
	if len(texts) < 4 {
		b.Errorf("only %d files", len(texts))
	}
	end := plain[(len(plain)-16)/3*3:] // that of ML-DSA begins as the public key does
	for name, text := range texts {
		for _, form := range []string{string(end), base64.StdEncoding.EncodeToString(end)[:20], fmt.Sprintf("%x", end), fmt.Sprintf("%X", end)} {
			if strings.Contains(text, form) {
				b.Errorf("the secret is in %s", name)
			}
		}
	}
}

// What was signed at the mark is not taken over, whoever says so: an enclave would sign it
// again for its host.
func TestMakeBackupLeavesSignBytes(t *testing.T) {
	b := newBench(t)
	key := b.validator(pubkey.Ed25519)
	now := time.Now()
	exported := must(home.EncodeInterchange("chain-1", key.PublicKey(), watermark.Saved{Mark: watermark.Mark{Height: 7, Step: watermark.StepPrecommit, SignBytes: []byte("a block")}, Time: now}, now, home.Exporter{}))
	b.write("old.json", exported, 0o600)
	if out, err := b.make(fromOutside + " --import-state old.json --yes"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	got := must(home.ReadState(b.path("new.json"), "chain-1", key.PublicKey()))
	if r := must(hostlink.ReadRecord(got.Mark.SignBytes)); r.Mark.Height != 7 || r.Mark.SignBytes != nil || !got.Time.Equal(now) {
		t.Errorf("%+v, of %v", r, got.Time)
	}
}

// A truth table of what is not brought in. Nothing is written then.
func TestMakeBackupRefuses(t *testing.T) {
	b := newBench(t)
	b.recoveryKey("next")
	key := b.validator(pubkey.Ed25519)
	b.write("secp.key", must(soft.Generate(pubkey.Secp256k1)).Encode(), 0o600)
	b.write("cut.key", key.Encode()[:60], 0o600)
	b.write("loose.key", key.Encode(), 0o644)
	b.write("old.json", []byte(`{"height":"7","round":0,"step":1}`), 0o600)
	b.write("reset.json", []byte(`{"height":"0","round":0,"step":0}`), 0o600)
	b.write("other.json", must(home.EncodeInterchange("chain-2", key.PublicKey(), watermark.Saved{Mark: watermark.Floor(5)}, time.Now(), home.Exporter{})), 0o600)
	b.write("another.json", must(home.EncodeInterchange("chain-1", must(soft.Generate(pubkey.Ed25519)).PublicKey(), watermark.Saved{Mark: watermark.Floor(5)}, time.Now(), home.Exporter{})), 0o600)
	b.write("there.backup", nil, 0o600)
	b.write("light.backup", light(t, key), 0o600)
	b.write("lightkey.bin", lightKey, 0o600)
	b.write("wrong.bin", make([]byte, 32), 0o600)
	b.write("loose.bin", lightKey, 0o640)
	b.write("sealed.key", []byte(`{"seal_key_request":{"keyname":4},"nonce":[0],"sealed_secret":[0]}`), 0o600)
	if out, err := b.make(strings.Replace(fromOutside, "new", "old", 1) + " --fresh-state"); err != nil {
		t.Fatal(out, err)
	}
	os.Remove(b.path("new.json"))
	for _, c := range []struct{ name, from, to, more, says string }{
		{"no recipient", "--to recovery.pub", "", "--fresh-state", "--to KEY is missing"},
		{"no out", "--out new.backup", "", "--fresh-state", "--out FILE is missing"},
		{"no chain", "--chain-id chain-1", "", "--fresh-state", "--chain-id is missing"},
		{"a chain that is none", "chain-1", "a/b", "--fresh-state", "--chain-id: "},
		{"no file of the state", "--state-out new.json", "", "--fresh-state", "--state-out FILE is missing"},
		{"no word for the state", "", "", "", "add one of --import-state FILE, --fresh-state and --after-height H"},
		{"two words for the state", "", "", "--fresh-state --after-height 5", "add one of --import-state FILE, --fresh-state and --after-height H"},
		{"one file for both", "new.json", "new.backup", "--fresh-state", "--out and --state-out are one file"},
		{"a backup is in the way", "new.backup", "there.backup", "--fresh-state", "there.backup already exists"},
		{"a state is in the way", "new.json", "old.json", "--fresh-state", "old.json already exists"},
		{"the private half", "recovery.pub", "recovery.key", "--fresh-state", "is the private half of a recovery key"},
		{"a recipient that is none", "recovery.pub", "old.json", "--fresh-state", "is neither hpke-x25519:BASE64 nor an RSA public key in PEM"},
		{"no key", "validator.key", "none.key", "--fresh-state", "none.key"},
		{"a key that is cut off", "validator.key", "cut.key", "--fresh-state", "cannot import the key file"},
		{"a key that others can read", "validator.key", "loose.key", "--fresh-state", "has mode 0644, so that others may have read it\n`chmod 600 "},
		{"a key of secp256k1", "validator.key", "secp.key", "--fresh-state", errNoSuch.Error()},
		{"a key of another type", "", "", "--fresh-state --type ml_dsa_65", "not of type ml_dsa_65"},
		{"another public key", "", "", "--fresh-state --backup-of AAAA", "not of AAAA"},
		{"nobody confirms", "", "", "--import-state old.json", "your confirmation is needed"},
		{"a state that was reset", "", "", "--import-state reset.json --yes", "a state that was reset looks like that of a key that never signed"},
		{"a state of another chain", "", "", "--import-state other.json --yes", `it is for chain "chain-2", not "chain-1"`},
		{"a state of another key", "", "", "--import-state another.json --yes", "it is for another key"},
		{"no state", "", "", "--import-state none.json --yes", "none.json"},
		{"a backup of ours for a key", "validator.key", "old.backup", "--fresh-state", "is a backup of an SGX enclave\nadd --recovery-key FILE"},
		{"a backup of tmkms-light for a key", "validator.key", "light.backup", "--fresh-state", "is a backup of tmkms-light's SGX enclave\nadd --sgx-backup-key FILE"},
		{"another key of the HSM", "validator.key", "light.backup", "--fresh-state --sgx-backup-key wrong.bin", "does not open with this key"},
		{"a key of the HSM that others can read", "validator.key", "light.backup", "--fresh-state --sgx-backup-key loose.bin", "has mode 0640"},
		{"half of what opens it", "validator.key", "light.backup", "--fresh-state --sgx-wrap-key recovery.key", "a backup opens with --sgx-backup-key alone"},
		{"what tmkms-light has sealed", "validator.key", "sealed.key", "--fresh-state --sgx-backup-key lightkey.bin", "which only that enclave opens, and not a backup"},
		{"another key out of a backup", "validator.key", "light.backup", "--fresh-state --sgx-backup-key lightkey.bin --backup-of AAAA", "not of AAAA"},
		{"a recovery key for a key", "", "", "--fresh-state --recovery-key recovery.key", "--fresh-state is for a key from outside"},
	} {
		line := fromOutside
		if c.from != "" {
			line = strings.Replace(line, c.from, c.to, 1)
		}
		out, err := b.make(line + " " + c.more)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s, %v", c.name, out, err)
		}
		b.nothingMade(c.name)
	}
}

func (b *bench) nothingMade(name string) {
	b.Helper()
	for _, file := range []string{"new.backup", "new.json"} {
		if _, err := os.Lstat(b.path(file)); err == nil {
			b.Errorf("%s: %s was made", name, file)
			os.Remove(b.path(file))
		}
	}
}

// A state that lies beside the key, and is above the one that comes, is found.
func TestMakeBackupLooksBeside(t *testing.T) {
	b := newBench(t)
	b.validator(pubkey.Ed25519)
	b.write("priv_validator_state.json", []byte(`{"height":"9","round":0,"step":1}`), 0o600)
	if out, err := b.make(fromOutside + " --fresh-state"); err == nil || !strings.Contains(err.Error(), "says that the key has signed up to height 9") {
		t.Errorf("%s, %v", out, err)
	}
	b.nothingMade("beside")
}

// lightKey is the key of tmkms-light's own test vector (cloud.rs, test_rsa2).
var lightKey = must(base64.StdEncoding.DecodeString("kkoUzcsbiw5jDL5kO/vYPtBwh5Vi/lHs4k3ievKnflo="))

// light makes a backup as tmkms-light does.
func light(t *testing.T, key *soft.Key) []byte {
	t.Helper()
	ints := func(b []byte) (list []int) {
		for _, x := range b {
			list = append(list, int(x))
		}
		return list
	}
	nonce, public := []byte("twelve bytes"), key.PublicKey().Bytes()
	sealed := must(gcmsiv.Seal(lightKey, nonce, key.Secret(), public))
	return must(json.Marshal(map[string]any{"nonce": ints(nonce), "sealed_secret": ints(sealed), "public_key": ints(public)}))
}

// A key of tmkms-light's enclave comes out of its backup, by the bytes of the HSM or by what
// was encrypted to a wrap key, in tmkms-light's own vectors.
func TestMakeBackupOfTMKMSLight(t *testing.T) {
	for name, flags := range map[string]string{"the HSM's": "--sgx-backup-key lightkey.bin", "external": "--sgx-external-key external.key --sgx-wrap-key wrap.pem"} {
		b := newBench(t)
		key := must(soft.Generate(pubkey.Ed25519))
		b.write("validator.key", light(t, key), 0o644)
		b.write("lightkey.bin", lightKey, 0o600)
		for from, to := range map[string]string{"external.key": "external.key", "wrap-private.pem": "wrap.pem"} {
			b.write(to, must(os.ReadFile("../../../migrate/lightsgx/testdata/"+from)), 0o600)
		}
		b.write("old.json", []byte(`{"height":"7","round":"0","step":1,"block_id":null}`), 0o600)
		out, err := b.make(fromOutside + " --import-state old.json --yes " + flags)
		if err != nil || strings.Contains(out, "shred") || !strings.Contains(out, "ran tmkms-light's init, may have the validator's key") {
			t.Fatalf("%s: %s, %v", name, out, err)
		}
		k, err := b.opened("new.backup", "recovery")
		if err != nil || k.Origin != claims.Imported || !bytes.Equal(k.Secret.Reveal(), key.Secret()) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
		b.nothingPlain(key.Secret(), out)
	}
}

// backedUp makes the backup of a key, as an enclave does.
func (b *bench) backedUp(recovery, chainID, origin string) *soft.Key {
	b.Helper()
	key := must(soft.Generate(pubkey.Ed25519))
	k := secret.Key{ChainID: chainID, KeyType: string(key.Type()), Public: key.PublicKey().Bytes(), Secret: secret.NewBytes(key.Secret()), Origin: origin, Created: time.Unix(1_800_000_000, 0).UTC()}
	b.write("old.backup", must(b.enclave(recovery).Backup(k)), 0o600)
	return key
}

// The recovery key is exchanged, whatever the kinds of both: the backup says the same of the
// key, opens with the new one, and into enclaves that name that. The old one is as it was.
func TestExchange(t *testing.T) {
	b := newBench(t)
	b.recoveryKey("next")
	b.rsaKey("rsa")
	for _, c := range []struct{ from, to, chainID, origin string }{
		{"recovery", "next", "chain-1", claims.Generated},
		{"recovery", "rsa", "chain-1", claims.Imported},
		{"rsa", "next", "", claims.Generated},
		{"next", "recovery", "chain-1", claims.RecoveredImported},
	} {
		key := b.backedUp(c.from, c.chainID, c.origin)
		old := b.read("old.backup")
		line := strings.NewReplacer("recovery.key", c.from+".key", "next.pub", c.to+".pub").Replace(exchange)
		if c.chainID != "" {
			line += " --chain-id " + c.chainID
		}
		out, err := b.make(line + " --backup-of " + claims.EncodeKey(key.PublicKey().Bytes()))
		if err != nil {
			t.Fatalf("%+v: %s, %v", c, out, err)
		}
		before, err := b.opened("old.backup", c.from)
		if err != nil || !bytes.Equal(b.read("old.backup"), old) {
			t.Fatalf("%+v: the old one: %v", c, err)
		}
		after, err := b.opened("new.backup", c.to)
		if err != nil || after.Origin != c.origin || !after.Created.Equal(before.Created) || !after.Secret.Equal(before.Secret) || after.ChainID != c.chainID {
			t.Errorf("%+v: %v, %v", c, after, err)
		}
		if _, err := b.opened("new.backup", c.from); err == nil {
			t.Errorf("%+v: the old recovery key opens the new backup", c)
		}
		id := must(readKey(b.path(c.from + ".key"))).Recipient().ID()
		if !strings.Contains(out, "still opens with "+id+": destroy every copy of either") {
			t.Errorf("%+v: %s", c, out)
		}
		b.nothingPlain(key.Secret(), out)
		os.Remove(b.path("new.backup"))
	}
}

// A recovery key that is in an HSM is exchanged for another one as well.
func TestExchangeByAnHSM(t *testing.T) {
	b := newBench(t)
	private := b.rsaKey("rsa")
	key := b.backedUp("rsa", "chain-1", claims.Generated)
	part := must(sgxseal.InspectBackup(b.read("old.backup"))).ForHSM()
	b.write("kek.bin", must(rsa.DecryptOAEP(sha256.New(), nil, private, part, nil)), 0o600)
	line := strings.NewReplacer("--recovery-key recovery.key", "--kek kek.bin", "next.pub", "recovery.pub").Replace(exchange)
	if out, err := b.make(line); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if k, err := b.opened("new.backup", "recovery"); err != nil || !bytes.Equal(k.Secret.Reveal(), key.Secret()) {
		t.Errorf("%v, %v", k, err)
	}
	if out, err := b.make(line + " --recovery-key recovery.key"); err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Errorf("%s, %v", out, err)
	}
}

// A truth table of backups that are not written again.
func TestExchangeRefuses(t *testing.T) {
	b := newBench(t)
	b.recoveryKey("next")
	b.backedUp("recovery", "chain-1", claims.Generated)
	other := must(soft.Generate(pubkey.Ed25519))
	forged := func(t pubkey.Type, public []byte) []byte {
		k := secret.Key{ChainID: "chain-1", KeyType: string(t), Public: public, Secret: secret.NewBytes(must(soft.Generate(t)).Secret()), Origin: claims.Generated}
		return must(sgxseal.MakeBackup(must(policy.ParseRecipient(strings.TrimSpace(string(b.read("recovery.pub"))))), k))
	}
	b.write("forged.backup", forged(pubkey.Ed25519, other.PublicKey().Bytes()), 0o600)
	b.write("secp.backup", forged(pubkey.Secp256k1, other.PublicKey().Bytes()), 0o600)
	b.validator(pubkey.Ed25519)
	b.write("loose.key", b.read("recovery.key"), 0o644)
	for _, c := range []struct{ name, from, to, says string }{
		{"another recovery key", "recovery.key", "next.key", "the backup is for the recovery key "},
		{"no recovery key", "recovery.key", "none.key", "cannot read the recovery key"},
		{"the public half for the private", "recovery.key", "recovery.pub", "recovery.pub"},
		{"a recovery key that others can read", "recovery.key", "loose.key", "has mode 0644"},
		{"the same recovery key", "next.pub", "recovery.pub", "is for the recovery key of --to already"},
		{"another public key", "new.backup", "new.backup --backup-of AAAA", "not of AAAA"},
		{"another chain", "new.backup", "new.backup --chain-id chain-2", `is of chain "chain-1", not of chain "chain-2"`},
		{"a state", "new.backup", "new.backup --state-out new.json", "--state-out is for a key from outside"},
		{"a height", "new.backup", "new.backup --after-height 5", "--after-height is for a key from outside"},
		{"a key of tmkms-light's", "new.backup", "new.backup --sgx-backup-key x.bin", "--sgx-backup-key is for a key from outside"},
		{"no backup", "old.backup", "none.backup", "none.backup"},
		{"a key for a backup", "old.backup", "validator.key", "not a backup of a key"},
		{"a secret of another public key", "old.backup", "forged.backup", "the key in the backup is not that of the public key that it names"},
		{"a key of secp256k1", "old.backup", "secp.backup", errNoSuch.Error()},
		{"nothing is overwritten", "new.backup", "old.backup", "old.backup already exists"},
	} {
		out, err := b.make(strings.Replace(exchange, c.from, c.to, 1))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s, %v", c.name, out, err)
		}
		b.nothingMade(c.name)
	}
	whole := b.read("old.backup")
	for i := range whole {
		bad := slices.Clone(whole)
		bad[i] ^= 0x20
		for name, data := range map[string][]byte{"the first bytes": whole[:i], "another byte": bad} {
			b.write("old.backup", data, 0o600)
			if _, err := b.make(exchange); err == nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%s, %d: %v", name, i, err)
			}
		}
	}
	b.nothingMade("cut or changed")
}

// An enclave says of a key that was brought in this way that it comes from a backup, and that
// it was imported; and only one with the new recovery key takes the backup that was exchanged.
func TestEnclaveTakesWhatIsMade(t *testing.T) {
	b := newBench(t)
	b.recoveryKey("next")
	key := b.validator(pubkey.Ed25519)
	if out, err := b.make(strings.Replace(fromOutside, "new.backup", "old.backup", 1) + " --fresh-state"); err != nil {
		t.Fatal(out, err)
	}
	if out, err := b.make(exchange); err != nil {
		t.Fatal(out, err)
	}
	for _, c := range []struct {
		backup, recovery, enclave, wrong string
	}{
		{"old.backup", "recovery", "recovery", ""},
		{"old.backup", "recovery", "next", "and the measured policy names"},
		{"new.backup", "next", "next", ""},
		{"new.backup", "next", "recovery", "and the measured policy names"},
	} {
		e := b.enclave(c.enclave)
		wrap, public, err := e.WrapKey()
		if err != nil {
			t.Fatal(err)
		}
		file := b.read(c.backup)
		encrypted := must(kwp.WrapRSA(must(parseWrapKey(public)), must(must(readKey(b.path(c.recovery+".key"))).Key(file))))
		k, err := e.Recover(wrap, encrypted, file)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && (claims.Recovered(k.Origin) != claims.RecoveredImported || !bytes.Equal(k.Public, key.PublicKey().Bytes())) {
			t.Errorf("%+v: %v, %s", c, k, k.Origin)
		}
	}
}

// Where a validator's config is, is no place for a recovery key; and what is longer than any
// backup is not read.
func TestExchangeOnTheHost(t *testing.T) {
	b := newBench(t)
	b.recoveryKey("next")
	b.backedUp("recovery", "chain-1", claims.Generated)
	b.write("privyseal.toml", nil, 0o600)
	out, err := b.make(exchange)
	if err != nil || !strings.Contains(out, "a validator's config lies beside it") || !strings.Contains(out, "make backups on another one") {
		t.Errorf("%s, %v", out, err)
	}
	os.Remove(b.path("new.backup"))
	b.write("old.backup", append(b.read("old.backup"), make([]byte, 64<<10)...), 0o600)
	if _, err := b.make(exchange); err == nil || !strings.Contains(err.Error(), "more than 32768 bytes") {
		t.Error(err)
	}
}
