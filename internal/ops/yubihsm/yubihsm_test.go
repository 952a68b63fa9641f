package yubihsm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/provider"
)

// made makes a key 7 on n devices, and returns the config.
func made(t *testing.T, n int) (*world, *config.Config) {
	t.Helper()
	w := newWorld(t, n)
	w.Provision(7, yubihsmtest.Ed25519, 1)
	if out, err := w.init(home.Order{}, w.set("--yubihsm-take", "--yubihsm-key-id", "7", "--fresh-state", "--yes")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w, w.Config()
}

// open opens the key of the first chain.
func (w *world) open(h *Holder, c *config.Config) provider.Key {
	w.T.Helper()
	key, err := h.Open(w.T.Context(), c, c.Chains[0])
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Cleanup(func() { key.Close() })
	return key
}

// try returns the error of a signature, which has to be right if there is none.
func (w *world) try(key provider.Key) error {
	w.T.Helper()
	signature, err := key.Sign(nil, []byte("a vote"), nil)
	if err == nil && !key.PublicKey().Verify([]byte("a vote"), signature) || err != nil && signature != nil {
		w.T.Errorf("%x, %v", signature, err)
	}
	return err
}

// The public key of a chain is known without a device. A signer starts without one, too,
// and signs when it is there.
func TestOpenWithoutADevice(t *testing.T) {
	w, c := made(t, 1)
	w.Dev[0].StopConnector()
	h := &Holder{}
	if public, err := h.Public(c, c.Chains[0]); err != nil || public.IsZero() {
		t.Errorf("%v, %v", public, err)
	}
	key := w.open(h, c)
	if err := w.try(key); err == nil || !strings.Contains(err.Error(), "no answer from the YubiHSM connector") {
		t.Error(err)
	}
	w.Dev[0].StartConnector(t)
	if err := w.try(key); err != nil {
		t.Error(err)
	}
}

// What waits for an operator is said to.
func TestOpenRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(w *world)
		want   string
	}{
		"another key on the device": {func(w *world) { w.Dev[0].Swap(w.T, 7) }, ", not ed25519 "},
		"no password file":          {func(w *world) { os.Remove(w.Path("four")) }, "no such file"},
		"a reference cut off":       {func(w *world) { os.Truncate(filepath.Join(w.Home, "keys/chain-1.yubihsm"), 20) }, "it is truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			w, c := made(t, 1)
			tt.before(w)
			_, err := (&Holder{}).Open(t.Context(), c, c.Chains[0])
			var act cli.ActError
			if !errors.As(err, &act) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if n := w.Dev[0].Sessions(); n != 0 {
				t.Errorf("%d sessions stay open", n)
			}
		})
	}
}

// Two devices with the same key stand in for each other.
func TestTwoDevices(t *testing.T) {
	w, c := made(t, 2)
	key := w.open(&Holder{}, c)
	for _, step := range []func(){func() {}, func() { w.Dev[0].Unplug() }, func() { w.Dev[0].Plug(); w.Dev[1].Unplug() }} {
		step()
		if err := w.try(key); err != nil {
			t.Error(err)
		}
	}
	d := key.(provider.Watched).Devices()
	if len(d) != 2 || d[0].Address != w.Devices[0] || d[0].Failed != "" || d[0].Signatures != 2 || d[0].Name != "YubiHSM 0012345678, firmware 2.4.0" || d[0].LogSize != yubihsmtest.LogSize || d[0].LastTook <= 0 ||
		d[1].Address != w.Devices[1] || !strings.Contains(d[1].Failed, "reaches no device") || d[1].Signatures != 1 || !d[0].Since.After(d[1].Since) {
		t.Errorf("%+v", d)
	}
}

// A new password is used by whoever opens a key next, and the old one by those who have one.
func TestNewPassword(t *testing.T) {
	w, c := made(t, 1)
	h := &Holder{}
	old := w.open(h, c)
	w.Dev[0].ProvisionAuth(t, 4, "five", reachtest.Signs)
	w.File("four", "five")
	now := w.open(h, c)
	for _, key := range []provider.Key{old, now} {
		if err := w.try(key); err != nil {
			t.Error(err)
		}
	}
	if n := w.Dev[0].Sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// Chains come and go at the same time, as at a reload, and no one takes the devices from
// another.
func TestComeAndGo(t *testing.T) {
	w, c := made(t, 1)
	h := &Holder{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				key, err := h.Open(t.Context(), c, c.Chains[0])
				if err != nil {
					t.Error(err)
					return
				}
				if err := w.try(key); err != nil {
					t.Error(err)
				}
				key.Close()
			}
		})
	}
	all.Wait()
	if n := w.Dev[0].Sessions(); n != 0 {
		t.Errorf("%d sessions", n)
	}
}
