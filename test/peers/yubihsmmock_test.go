package peers_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/test/e2e/rig"
	"privyseal/test/tools"
	"privyseal/yubihsm"
)

// TestMockAndSimulator has our client do the same with the mock device of the Rust crate
// yubihsm and with our simulator, and compares what comes of it, line by line.
func TestMockAndSimulator(t *testing.T) {
	mock := conversation(t, startMock(t))
	ours := conversation(t, yubihsmtest.New(t, yubihsmtest.Options{}).URL())
	if mock != ours {
		t.Errorf("with the mock:\n%s\nwith the simulator:\n%s", mock, ours)
	}
	t.Logf("\n%s", ours)
}

// startMock runs the mock behind a proxy, and returns the proxy's address. The mock's
// status page is no status page, and it describes itself in sessions only.
func startMock(t *testing.T) string {
	program, err := tools.Program("yubihsmmock-v0.42.1", "scripts/setup peers")
	check(t, err)
	_, port, _ := strings.Cut(freeAddr(t), ":")
	p, err := rig.StartProcess("yubihsmmock", filepath.Join(t.TempDir(), "log"), program, port)
	check(t, err)
	t.Cleanup(func() {
		p.Stop(time.Minute)
		tail(t, p)
	})
	target := "http://127.0.0.1:" + port
	for {
		resp, err := http.Get(target + "/connector/status")
		if err == nil {
			resp.Body.Close()
			break
		}
		select {
		case <-p.Done():
			t.Fatalf("the mock does not run: %v\n%s", p.Err(), p.Tail(10))
		case <-time.After(20 * time.Millisecond):
		}
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case r.URL.Path == "/connector/status":
			fmt.Fprintf(w, "status=OK\nserial=*\nversion=3.0.5\npid=1\naddress=127.0.0.1\nport=%s\n", port)
		case bytes.Equal(body, []byte{6, 0, 0}):
			w.Write([]byte{0x86, 0, 10, 2, 0, 0, 0, 0, 0, 1, 62, 1, 46})
		default:
			forward(w, target+r.URL.Path, body)
		}
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

func forward(w http.ResponseWriter, url string, body []byte) {
	resp, err := http.Post(url, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// conversation is what our client and a device say to each other, a line a step. Keys that
// the device made are not in it, but whether they sign.
func conversation(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	device, err := yubihsm.Open(url)
	check(t, err)
	defer device.Close()
	s, err := yubihsm.Authenticate(ctx, device, 1, yubihsm.DeriveKey([]byte("password")))
	check(t, err)
	var said strings.Builder
	say := func(step string, err error, got ...any) {
		fmt.Fprintf(&said, "%s: %v %v\n", step, fmt.Sprint(got...), err)
	}
	say("echo", s.Echo(ctx, []byte("hello")))
	seed := sha256.Sum256([]byte("a test's seed"))
	private := ed25519.NewKeyFromSeed(seed[:])
	object := yubihsm.Object{ID: 5, Label: "imported", Domains: yubihsm.Domain(1), Capabilities: yubihsm.SignEdDSA, Algorithm: yubihsm.Ed25519}
	id, err := s.PutAsymmetricKey(ctx, object, seed[:])
	say("put", err, id)
	public, err := s.PublicKey(ctx, 5)
	say("public key", err, bytes.Equal(public.Bytes, private.Public().(ed25519.PublicKey)))
	signature, err := s.SignEdDSA(ctx, 5, []byte("a text that is no vote"))
	say("sign", err, bytes.Equal(signature, ed25519.Sign(private, []byte("a text that is no vote"))))
	object.ID, object.Label = 6, "generated"
	id, err = s.GenerateAsymmetricKey(ctx, object)
	say("generate", err, id)
	public, err = s.PublicKey(ctx, 6)
	say("public key", err, len(public.Bytes))
	signature, err = s.SignEdDSA(ctx, 6, []byte("x"))
	say("sign", err, len(public.Bytes) == 32 && ed25519.Verify(public.Bytes, []byte("x"), signature))
	object.ID, object.Algorithm, object.Capabilities = 7, yubihsm.K256, yubihsm.SignECDSA
	id, err = s.GenerateAsymmetricKey(ctx, object)
	say("generate", err, id)
	public, err = s.PublicKey(ctx, 7)
	say("public key", err, public.Algorithm, len(public.Bytes))
	info, err := s.ObjectInfo(ctx, yubihsm.TypeAsymmetricKey, 6)
	say("info", err, info.ID, info.Label, info.Domains, info.Capabilities, info.Algorithm, info.Origin)
	list, err := s.ListObjects(ctx, yubihsm.Filter{Type: yubihsm.TypeAsymmetricKey})
	say("list", err, len(list))
	say("delete", s.DeleteObject(ctx, yubihsm.TypeAsymmetricKey, 6))
	_, err = s.PublicKey(ctx, 6)
	say("public key of none", err)
	say("close", s.Close(ctx))
	return said.String()
}
