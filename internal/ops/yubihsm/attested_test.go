package yubihsm

import (
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/home"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/keys"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/yubico"
	hsm "privyseal/yubihsm"
)

// mayAttest gives the administrator the right to have keys attested.
func (w *world) mayAttest(can yubihsmtest.Capabilities) {
	for _, d := range w.Dev {
		d.Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth,
			Capabilities: reachtest.Makes | can, Delegated: reachtest.Makes}, []byte("two"))
	}
}

const saved = "keys/chain-1.attestation"

// attestedKey returns a world with a chain whose key 7 was made and attested.
func attestedKey(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	w.mayAttest(yubihsmtest.CanAttest | yubihsmtest.CanGetOpaque)
	out, err := w.init(home.Order{}, w.set(w.admin("--yubihsm-key-id", "7")...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "\n" + filepath.Join(w.Home, saved) + ` does not verify: the certificate of the device does not lead to the root: it was issued by "Simulated YubiHSM Attestation CA", whose certificate is not known here; append that certificate to the file`
	if !strings.Contains(out, want) || strings.Contains(out, "no attestation") {
		t.Errorf("there is no %q in\n%s", want, out)
	}
	return w
}

// A key that init makes is attested if that can be had, and else it is said why not; a key
// that was imported is not.
func TestInitAttests(t *testing.T) {
	w := attestedKey(t)
	if info, err := os.Stat(filepath.Join(w.Home, saved)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for name, tt := range map[string]struct {
		before func(w *world)
		want   string
	}{
		"no right":               {func(*world) {}, "no attestation of the key was saved: authentication key 0x0002 of the YubiHSM at "},
		"no right to the device": {func(w *world) { w.mayAttest(yubihsmtest.CanAttest) }, " lacks the capability get-opaque\n"},
		"a failure": {func(w *world) {
			w.mayAttest(yubihsmtest.CanAttest | yubihsmtest.CanGetOpaque)
			w.Dev[0].Next(yubihsmtest.SignAttestation, yubihsmtest.Fails(yubihsmtest.StorageFailed))
		}, "no attestation of the key was saved: cannot have the key 0x0007 of the YubiHSM at "},
	} {
		w := newWorld(t, 1)
		tt.before(w)
		out, err := w.init(home.Order{}, w.set(w.admin("--yubihsm-key-id", "7")...)...)
		if err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v, want %q\n%s", name, err, tt.want, out)
		}
		if _, err := os.Stat(filepath.Join(w.Home, saved)); err == nil {
			t.Errorf("%s: something was saved", name)
		}
	}
	w = newWorld(t, 1)
	w.mayAttest(yubihsmtest.CanAttest | yubihsmtest.CanGetOpaque)
	path, _ := w.KeyFile("old.key", "ed25519")
	out, err := w.init(home.Order{ImportKey: path}, w.set(w.admin("--yubihsm-key-id", "7", "--after-height", "9", "--yes")...)...)
	if err != nil || strings.Contains(out, "attestation") || w.Dev[0].Count(yubihsmtest.SignAttestation) > 0 {
		t.Errorf("imported: %v\n%s", err, out)
	}
}

// A device that is none has the attestation of a real one, which is of another key.
func TestInitIsGivenAnotherAttestation(t *testing.T) {
	text, err := os.ReadFile("../../yubico/testdata/device-31650425_p256-key-0x7e57_of-blechschmidt-secsy-pki.pem")
	if err != nil {
		t.Fatal(err)
	}
	e, err := yubico.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 1)
	w.mayAttest(yubihsmtest.CanAttest | yubihsmtest.CanGetOpaque)
	w.Dev[0].Next(yubihsmtest.SignAttestation, yubihsmtest.Spoil(func([]byte) []byte { return e.Key }))
	w.Dev[0].Next(yubihsmtest.GetOpaque, yubihsmtest.Spoil(func([]byte) []byte { return e.Device }))
	out, err := w.init(home.Order{}, w.set(w.admin("--yubihsm-key-id", "0x7e57")...)...)
	if want := "\n" + filepath.Join(w.Home, saved) + " does not verify: it is of another key: 0x7e57"; err != nil || !strings.Contains(out, want) || strings.Contains(out, "made in this device") {
		t.Errorf("%v, there is no %q in\n%s", err, want, out)
	}
}

// What lies beside a chain's key has a row: what it proves, or why it proves nothing.
func TestCheckOfAnAttestation(t *testing.T) {
	certificate := func(w *world, n int) []byte {
		root, middle := w.Dev[0].Root()
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: [][]byte{root.Raw, middle.Raw}[n]})
	}
	for name, tt := range map[string]struct {
		change func(w *world, path string, text []byte) []byte
		want   string
	}{
		"good": {func(w *world, _ string, text []byte) []byte { return append(text, certificate(w, 1)...) },
			`^ok chain-1 YubiHSM 0012345678, firmware 2\.4\.0 attests key 0x0007: made in this device, and it cannot leave it, until 2071-10-05 -> $`},
		"no sub-CA": {func(_ *world, _ string, text []byte) []byte { return text },
			`^-- chain-1 \S+/keys/chain-1\.attestation proves nothing about the key: the certificate of the device does not lead to the root: it was issued by .* -> append that certificate to the file; if it is one of Yubico's, it is at https://`},
		"cut short": {func(_ *world, _ string, text []byte) []byte { return text[:700] },
			`^-- chain-1 .* proves nothing about the key: an attestation is two or more certificates in PEM.* -> move the file away, and have the device attest the key again: .privyseal yubihsm attest --key-id 0x0007 --out \S+/keys/chain-1\.attestation ….$`},
		"of another key": {func(w *world, _ string, text []byte) []byte {
			return append(w.attest(8), certificate(w, 1)...)
		}, `^-- chain-1 .* proves nothing about the key: it is of another key: 0x0008, ed25519 .* -> move the file away`},
		"a folder": {func(_ *world, path string, _ []byte) []byte {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return nil
		}, `^-- chain-1 .* proves nothing about the key: .*not a regular file -> move the file away`},
	} {
		t.Run(name, func(t *testing.T) {
			w := attestedKey(t)
			path := filepath.Join(w.Home, saved)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			w.has(`^ok  `, `^ok chain-1 `) // without the file there is no row
			if text = tt.change(w, path, text); text != nil {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if w.root, err = yubico.ParseAnchor(certificate(w, 0)); err != nil {
				t.Fatal(err)
			}
			w.has(`^ok  `, `^ok chain-1 `, tt.want)
		})
	}
}

// attest makes a key, and returns what the device attests of it.
func (w *world) attest(id uint16) (text []byte) {
	w.T.Helper()
	err := reach.Login{ID: 2, File: w.Path("two")}.Visit(w.T.Context(), w.Devices[0], func(ctx context.Context, s *hsm.Session) error {
		_, err := s.GenerateAsymmetricKey(ctx, hsm.Object{ID: id, Domains: 1, Algorithm: hsm.Ed25519, Capabilities: hsm.SignEdDSA})
		if err != nil {
			return err
		}
		e, err := keys.Attest(ctx, s, w.Devices[0], id)
		text = e.PEM()
		return err
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return text
}
