package backup

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/yubihsm"
)

// TestYubiHSMWrap has Yubico's program make backups of new keys under wrap keys of every
// size. With its nonces, ours are the same to the byte.
func TestYubiHSMWrap(t *testing.T) {
	program := filepath.Join(yubihsmtest.Programs(t, "yubihsm-wrap"), "yubihsm-wrap")
	oid := asn1.ObjectIdentifier{1, 3, 132, 0, 10} // secp256k1
	for _, size := range []int{16, 24, 32} {
		secret, wrapKey := make([]byte, 32), make([]byte, size)
		rand.Read(secret)
		rand.Read(wrapKey)
		secret[0] &= 0x7f // below the order of the group
		pkcs8, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(secret))
		if err != nil {
			t.Fatal(err)
		}
		sec1, err := asn1.Marshal(struct {
			Version int
			Secret  []byte
			Curve   asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
		}{1, secret, oid})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, capability string
			block            pem.Block
			object           yubihsm.Object
			typ              pubkey.Type
		}{
			{"ed25519", "sign-eddsa", pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}, yubihsm.Object{Algorithm: yubihsm.Ed25519, Capabilities: yubihsm.SignEdDSA}, pubkey.Ed25519},
			{"eck256", "sign-ecdsa", pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}, yubihsm.Object{Algorithm: yubihsm.K256, Capabilities: yubihsm.SignECDSA}, pubkey.Secp256k1},
		} {
			dir := t.TempDir()
			write := func(name string, data []byte) string {
				name = filepath.Join(dir, name)
				if err := os.WriteFile(name, data, 0o600); err != nil {
					t.Fatal(err)
				}
				return name
			}
			out := filepath.Join(dir, "backup")
			command := exec.Command(program, "-a", c.name, "-c", c.capability, "-d", "2,3", "-i", "513", "-l", "a label",
				"-k", write("wrapkey", wrapKey), "--in", write("key.pem", pem.EncodeToMemory(&c.block)), "--out", out)
			if text, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			blob, err := Decode(text)
			if err != nil {
				t.Fatal(err)
			}
			c.object.ID, c.object.Label, c.object.Domains = 513, "a label", 6
			ours := &Backup{Object: c.object, Origin: yubihsm.Imported, Key: softKey(t, c.typ, secret)}
			if got, err := ours.seal(wrapKey, blob[:nonceSize]); err != nil || !bytes.Equal(got, blob) || !bytes.Equal(append(Encode(got), '\n'), text) {
				t.Errorf("%s under %d bytes: %x, %v, want %x", c.name, size, got, err, blob)
			}
			if theirs := mustOpen(t, wrapKey, blob); theirs.Object != c.object || !theirs.Key.PublicKey().Equal(ours.Key.PublicKey()) {
				t.Errorf("%s under %d bytes: %+v", c.name, size, theirs)
			}
		}
	}
}
