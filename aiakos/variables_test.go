package aiakos_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"privyseal/aiakos"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/monitor"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
)

// slot is the key's object id in the tests.
const slot = 7

// variables sets those of a node, in order.
func variables(t *testing.T, values ...string) {
	t.Helper()
	for i, name := range []string{"URL", "SIGNING_KEY", "AUTH_KEY", "AUTH_KEY_PASSWORD", "IMPORT_KEY"} {
		value := ""
		if i < len(values) {
			value = values[i]
		}
		t.Setenv("AIAKOS_"+name, value)
	}
}

// newNodeHome makes the home of a node with a key file, and that of privyseal in it with the
// same key.
func newNodeHome(t *testing.T) (dir, keyFile string) {
	t.Helper()
	node := filestoretest.Folder(t)
	keyFile = filepath.Join(node, "config", "priv_validator_key.json")
	if err := os.Mkdir(filepath.Dir(keyFile), 0o700); err != nil {
		t.Fatal(err)
	}
	writeKey(t, keyFile)
	dir = filepath.Join(node, "privyseal")
	privyseal(t, "init", "--home", dir, "--chain-id", chainID, "--node", "unix:///nobody.sock", "--import-key", keyFile, "--fresh-state", "--yes")
	edit(t, dir, "listen", "", `""`) // whichever port was free
	edit(t, dir, "level", `"info"`, `"error"`)
	return dir, keyFile
}

// writeKey writes a new key as FilePV does.
func writeKey(t *testing.T, path string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	address, err := pubkey.New(pubkey.Ed25519, public)
	if err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%X", address.Address())
	value := func(kind string, b []byte) map[string]string {
		return map[string]string{"type": "tendermint/" + kind, "value": base64.StdEncoding.EncodeToString(b)}
	}
	text, err := json.Marshal(map[string]any{"address": hex, "pub_key": value("PubKeyEd25519", public), "priv_key": value("PrivKeyEd25519", private)})
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A node that was set up for Aiakos: its five variables, its key file, an empty slot. The
// key is imported once, and what Aiakos did not have is there: the mark.
func TestNodeOfAiakos(t *testing.T) {
	device := yubihsmtest.New(t, yubihsmtest.Options{})
	dir, keyFile := newNodeHome(t)
	address := strings.TrimPrefix(device.URL(), "http://")
	variables(t, address, "7", "", "", "TRUE")
	pv := open(t, dir)
	public := publicKey(t, pv, pubkey.Ed25519)
	if string(device.Public(t, slot)) != string(public.Bytes()) {
		t.Error("another key is on the device")
	}
	want := request(privval.KindPrevote, 1, 1)
	if got, err := sign(t, pv, want); err != nil || !public.Verify(want.SignBytes(), got.Signature) {
		t.Errorf("%v, %+v", err, got)
	}
	if n := device.Count(yubihsmtest.SignEdDSA); n == 0 {
		t.Error("the device signed nothing")
	}
	pv.Close()

	// The file is gone, and the variable forgotten: there is nothing to import.
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	pv = open(t, dir)
	if _, err := sign(t, pv, request(privval.KindPrevote, 1, 2)); !errors.Is(err, aiakos.ErrRefused) {
		t.Errorf("a second block: %v", err)
	}
	if _, err := sign(t, pv, request(privval.KindPrecommit, 1, 1)); err != nil {
		t.Error(err)
	}
	if n := device.Count(yubihsmtest.PutAsymmetricKey); n != 1 {
		t.Errorf("imported %d times", n)
	}
	pv.Close()

	variables(t, device.URL(), "7", "1", "password")
	if _, err := sign(t, open(t, dir), request(privval.KindPrevote, 2, 1)); err != nil {
		t.Errorf("all variables but the import: %v", err)
	}
}

// The import lets go of the device before the key on it is used: on the USB a device is for
// one at a time.
func TestImportLetsGo(t *testing.T) {
	device := yubihsmtest.New(t, yubihsmtest.Options{})
	target, err := url.Parse(device.URL())
	if err != nil {
		t.Fatal(err)
	}
	connector := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	door := &door{Listener: connector.Listener}
	connector.Listener = door
	connector.Start()
	t.Cleanup(connector.Close)
	dir, _ := newNodeHome(t)
	variables(t, connector.URL, "7", "", "", "TRUE")
	publicKey(t, open(t, dir), pubkey.Ed25519)
	if came, crowded := door.came.Load(), door.crowded.Load(); came < 2 || crowded > 0 {
		t.Errorf("%d connections came, %d of them while the one before was open", came, crowded)
	}
}

// door counts connections, and those that come while the other end of the one before has not
// closed it.
type door struct {
	net.Listener
	before        syscall.RawConn
	came, crowded atomic.Int64
}

func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if d.before != nil && isOpen(d.before) {
		d.crowded.Add(1)
	}
	d.came.Add(1)
	d.before, err = conn.(*net.TCPConn).SyscallConn()
	return conn, err
}

// isOpen reports whether neither end has closed a connection.
func isOpen(conn syscall.RawConn) (is bool) {
	conn.Control(func(fd uintptr) { // which fails if this end has
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		is = n > 0 || errors.Is(err, syscall.EAGAIN)
	})
	return is
}

// countingWriter counts what is written to it.
type countingWriter struct{ lines atomic.Int64 }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.lines.Add(1)
	return len(p), nil
}

// What a device has to say goes to the log of privyseal, which holds up nobody, and not to
// the node's.
func TestLogOfTheDevice(t *testing.T) {
	log := &countingWriter{}
	old := slog.Default()
	t.Cleanup(func() { slog.SetDefault(old) })
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	device := yubihsmtest.New(t, yubihsmtest.Options{})
	dir, _ := newNodeHome(t)
	variables(t, device.URL(), "7", "", "", "TRUE")
	pv := open(t, dir)
	publicKey(t, pv, pubkey.Ed25519)
	device.Next(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature())
	if _, err := sign(t, pv, request(privval.KindPrevote, 1, 1)); err != nil {
		t.Error(err)
	}
	if device.Count(yubihsmtest.SignEdDSA) < 2 {
		t.Error("the device did not fail")
	}
	if n := log.lines.Load(); n > 0 {
		t.Errorf("%d lines in the node's log", n)
	}
	s, err := monitor.ReadSnapshot(t.Context(), dir)
	if err != nil || len(s.Chains[0].Devices) != 1 || s.Chains[0].Devices[0].Signatures != 1 || s.Chains[0].Devices[0].Address != device.URL() {
		t.Errorf("the status is %+v, %v", s, err)
	}
}

// A key that was exchanged on the device is an error at the first try, and not after a minute
// and a half. It signs again when its key is back.
func TestExchangedKey(t *testing.T) {
	device := yubihsmtest.New(t, yubihsmtest.Options{})
	const can = yubihsmtest.CanSignEdDSA
	key := yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 7, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: can}
	device.ProvisionAuth(t, 4, "four", can)
	device.Provision(t, key, make([]byte, 32))
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	pv := open(t, newHome(t, "--provider", "yubihsm", "--yubihsm-device", device.URL(), "--yubihsm-auth-key", "4",
		"--yubihsm-password-file", password, "--yubihsm-key-id", "7", "--yubihsm-take", "--fresh-state", "--yes"))
	if _, err := sign(t, pv, request(privval.KindPrevote, 1, 1)); err != nil {
		t.Fatal(err)
	}
	device.Swap(t, 7)
	before := device.Count(yubihsmtest.SignEdDSA)
	if _, err := sign(t, pv, request(privval.KindPrevote, 2, 1)); err == nil || !strings.Contains(err.Error(), ", not ed25519 ") {
		t.Error(err)
	}
	if n := device.Count(yubihsmtest.SignEdDSA) - before; n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	device.Provision(t, key, make([]byte, 32))
	if _, err := sign(t, pv, request(privval.KindPrevote, 2, 1)); err != nil {
		t.Error(err)
	}
}

// Whatever is wrong with variables, device or key is an error, and nothing on the device is
// overwritten.
func TestWrongVariables(t *testing.T) {
	device := yubihsmtest.New(t, yubihsmtest.Options{})
	device.Remove(yubihsmtest.AuthenticationKey, 1)
	device.ProvisionAuth(t, 1, "secret word", yubihsmtest.CanSignEdDSA)
	other := device.ProvisionEd25519(t, 9)
	dir, keyFile := newNodeHome(t)
	url := device.URL()
	for _, tt := range []struct {
		values []string
		want   string
	}{
		{[]string{"", "7"}, "AIAKOS_URL"},
		{[]string{"", "", "", "", "TRUE"}, "AIAKOS_URL"},
		{[]string{url}, "AIAKOS_SIGNING_KEY"},
		{[]string{url, "0x7"}, "AIAKOS_SIGNING_KEY"},
		{[]string{url, "65535"}, "AIAKOS_SIGNING_KEY"},
		{[]string{url, "7", "one"}, "AIAKOS_AUTH_KEY"},
		{[]string{url, "7", "", "secret word", "true"}, "AIAKOS_IMPORT_KEY"},
		{[]string{url, "7"}, "wrong password"},
		{[]string{url, "7", "2", "secret word"}, "create session: object not found"},
		{[]string{url, "7", "", "secret word"}, "object not found"},
		{[]string{url, "9", "", "secret word"}, "is ed25519"},
		{[]string{url, "9", "", "secret word", "TRUE"}, "is ed25519"},
		{[]string{"127.0.0.1:1", "7", "", "secret word"}, "127.0.0.1:1"},
		{[]string{"ftp://host", "7"}, "ftp"},
	} {
		variables(t, tt.values...)
		pv := open(t, dir)
		_, err := pv.GetPubKey()
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret word") {
			t.Errorf("%q: no %q in: %v", tt.values, tt.want, err)
			continue // a signature would be tried for long
		}
		if err := pv.SignVote(chainID, encode(request(privval.KindPrevote, 1, 1))); err == nil {
			t.Errorf("%q: signed", tt.values)
		}
	}
	writeKey(t, keyFile)
	variables(t, url, "7", "1", "secret word", "TRUE")
	if _, err := open(t, dir).GetPubKey(); err == nil || !strings.Contains(err.Error(), keyFile) {
		t.Errorf("a key file of another key: %v", err)
	}
	if string(device.Public(t, 9)) != string(other) || device.Count(yubihsmtest.PutAsymmetricKey) != 0 {
		t.Error("something was put on the device")
	}
	if n := device.Sessions(); n > 12 {
		t.Errorf("%d sessions are left", n)
	}
}

// A home whose chain names a key on a YubiHSM is enough: no variable is set.
func TestYubiHSMOfTheConfig(t *testing.T) {
	variables(t)
	device := yubihsmtest.New(t, yubihsmtest.Options{})
	device.ProvisionAuth(t, 4, "four", yubihsmtest.CanSignEdDSA)
	public := device.ProvisionEd25519(t, slot)
	password := filepath.Join(filestoretest.Folder(t), "four")
	if err := os.WriteFile(password, []byte("four\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := newHome(t, "--provider", "yubihsm", "--yubihsm-device", device.URL(), "--yubihsm-auth-key", "4",
		"--yubihsm-password-file", password, "--yubihsm-key-id", "7", "--yubihsm-take", "--fresh-state", "--yes")
	pv := open(t, dir)
	if k := publicKey(t, pv, pubkey.Ed25519); !bytes.Equal(k.Bytes(), public) {
		t.Errorf("the key %v, and %x is on the device", k, public)
	}
	want := request(privval.KindPrecommit, 1, 1)
	got, err := sign(t, pv, want)
	if err != nil || !ed25519.Verify(public, want.SignBytes(), got.Signature) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := sign(t, pv, request(privval.KindPrecommit, 1, 2)); !errors.Is(err, aiakos.ErrRefused) {
		t.Errorf("another block in the same place: %v", err)
	}
	if err := pv.Close(); err != nil || device.Sessions() != 0 {
		t.Errorf("%d sessions stay open: %v", device.Sessions(), err)
	}
	device.Swap(t, slot)
	if k, err := open(t, dir).GetPubKey(); err == nil || !strings.Contains(err.Error(), "the key 0x0007 on the YubiHSM at ") {
		t.Errorf("another key in its place: %v, %v", k, err)
	}
}
