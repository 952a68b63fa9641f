package keys

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/yubico"
)

// Yubico's program shows the keys that we make and import with the attributes that we say, and
// what it has the device attest is one of our documents.
func TestKeysOfYubiHSMShell(t *testing.T) {
	program := filepath.Join(yubihsmtest.Programs(t, "yubihsm-shell"), "yubihsm-shell")
	w := newWorld(t, 1)
	shell := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(program, append([]string{"-C", w.Devices[0], "--authkey", "2", "-p", "two"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	info := func(id, want string) {
		t.Helper()
		if out := shell("-a", "get-object-info", "-t", "asymmetric-key", "-i", id); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("there is no %s in\n%s", want, out)
		}
	}
	w.Must("made", w.generate("--label", "chain-1", "--out", "ours")...)
	info("7", `id: 0x0007, type: asymmetric-key, algorithm: ed25519, label: "chain-1", length: [0-9]+, domains: 1, sequence: 0, origin: generated, capabilities: sign-eddsa`)
	w.Must("made", w.generate("--key-id", "8", "--key-type", "secp256k1", "--exportable", "--domains", "1,3")...)
	info("8", `algorithm: eck256, label: "", length: [0-9]+, domains: 1:3, sequence: 0, origin: generated, capabilities: exportable-under-wrap:sign-ecdsa`)
	w.Must("imported", w.imports(w.File("seed", forms(t, "ed25519")["tmkms"]), "--key-id", "9")...)
	info("9", `algorithm: ed25519, label: "", length: [0-9]+, domains: 1, sequence: 0, origin: imported, capabilities: sign-eddsa`)

	shell("-a", "sign-attestation-certificate", "-i", "7", "--attestation-id", "0", "--out", w.Path("key.pem"))
	shell("-a", "get-opaque", "-i", "0", "--outformat", "PEM", "--out", w.Path("device.pem"))
	text := append(append(w.read("key.pem"), w.read("device.pem")...), w.read("sub-ca0")...)
	root, err := yubico.ParseAnchor(w.read("root0"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify.OfFile(text, root, time.Now())
	if err != nil {
		t.Fatalf("what yubihsm-shell writes: %v\n%s", err, text)
	}
	if p.ID != 7 || p.Label != "chain-1" || !p.Generated() || p.Exportable() || !bytes.Equal(p.Public, w.Dev[0].Public(t, 7)) {
		t.Errorf("%+v", p)
	}
}

// OpenSSL comes to the same result about what is saved, of both types.
func TestOpenSSLVerifies(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		const missing = "openssl is missing; `scripts/setup debian` brings it"
		if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	w := newWorld(t, 1)
	for _, typ := range []string{"ed25519", "secp256k1"} {
		w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7)
		w.Must("made", w.generate("--key-type", typ, "--out", typ)...)
		key, above, _ := strings.Cut(string(w.read(typ)), "-----END CERTIFICATE-----\n")
		w.File("key.pem", key+"-----END CERTIFICATE-----\n")
		w.File("above.pem", above)
		out, err := exec.Command(openssl, "verify", "-CAfile", "root0", "-untrusted", "above.pem", "key.pem").CombinedOutput()
		if err != nil || string(out) != "key.pem: OK\n" {
			t.Errorf("%s: %v\n%s", typ, err, out)
		}
	}
}
