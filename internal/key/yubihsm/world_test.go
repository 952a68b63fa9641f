package yubihsm

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// keyID and authID are those of a device that tmkms has set up.
const (
	keyID  = 1
	authID = 4
)

// world is devices that hold one key, and ours to use them.
type world struct {
	t      testing.TB
	dev    []*yubihsmtest.Device
	public pubkey.Key
	ours   *Devices
	key    *Key
	log    *logBuffer

	secret []byte // of the key
	config Config // of ours, without the key
	folder string // of the audit log
}

// patient are times that no machine is too slow for. Nothing waits for them unless a test
// lets a device hang.
var patient = times{patience: time.Minute, try: 20 * time.Second, keepAlive: time.Hour, tend: time.Hour}

// newWorld returns n devices with the same key.
func newWorld(t testing.TB, n int, with times) *world {
	return worldOf(t, n, with, yubihsmtest.Ed25519, yubihsmtest.Options{})
}

func worldOf(t testing.TB, n int, with times, algorithm byte, options yubihsmtest.Options) *world {
	t.Helper()
	w := &world{t: t, log: &logBuffer{}}
	secret := bytes.Repeat([]byte{7}, 32)
	w.secret = secret
	c := Config{AuthKey: authID, Key: hsm.DeriveKey([]byte("four")), Log: slog.New(slog.NewTextHandler(w.log, nil))}
	for i := range n {
		options.Serial = yubihsmtest.DefaultSerial + uint32(i)
		d := yubihsmtest.New(t, options)
		d.ProvisionAuth(t, authID, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanSignECDSA)
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: keyID, Algorithm: algorithm, Domains: 1,
			Capabilities: yubihsmtest.CanSignEdDSA | yubihsmtest.CanSignECDSA}, secret)
		w.dev = append(w.dev, d)
		c.Addresses = append(c.Addresses, d.URL())
	}
	raw := hsm.PublicKey{Algorithm: hsm.Algorithm(algorithm), Bytes: w.dev[0].Public(t, keyID)}
	var err error
	if w.public, err = PublicOf(raw); err != nil {
		t.Fatal(err)
	}
	if w.ours, err = open(c, with); err != nil {
		t.Fatal(err)
	}
	ours := w.ours
	w.config = c
	t.Cleanup(func() { ours.Close() })
	if w.key, err = w.ours.Key(t.Context(), keyID, w.public); err != nil {
		t.Fatal(err)
	}
	return w
}

// vote returns what is as long as a vote.
func vote(when string) []byte { return fmt.Appendf(nil, "%-120s", "a vote "+when) }

// signs fails the test if nothing is signed.
func (w *world) signs(when string) {
	w.t.Helper()
	message := vote(when)
	signature, err := w.key.Sign(nil, message, nil)
	if err != nil || !w.public.Verifier()(message, signature) {
		w.t.Errorf("%s: %x, %v", when, signature, err)
	}
}

// fails returns the error of a signature.
func (w *world) fails(when string) error {
	w.t.Helper()
	signature, err := w.key.Sign(nil, []byte("a vote "+when), nil)
	if err == nil || signature != nil {
		w.t.Errorf("%s: %x, %v", when, signature, err)
	}
	return err
}

// halfMinute lets as much time pass as a device keeps a session that nobody uses.
func (w *world) halfMinute() {
	for i, d := range w.ours.list {
		d.turn <- struct{}{} // a handshake does not take half a minute
		w.dev[i].Advance(sessionIdle)
		for j := range d.abandoned {
			d.abandoned[j] = d.abandoned[j].Add(-sessionIdle)
		}
		<-d.turn
	}
}

// marks returns which devices failed, as in "ok failed".
func (w *world) marks() string {
	var list []string
	for _, s := range w.ours.Status() {
		list = append(list, map[bool]string{true: "ok", false: "failed"}[s.Failed == nil])
	}
	return strings.Join(list, " ")
}

// await waits until a condition holds, for as long as the test may take.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within a minute; %s; %s", what, w.marks(), w.log)
		}
	}
}

// says waits for a text in the log: what happened is shown before its line is written.
func (w *world) says(text string) {
	w.t.Helper()
	w.await("the log says "+text, func() bool { return strings.Contains(w.log.String(), text) })
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu    sync.Mutex
	lines []string
	hears func() // each line; nil: nobody
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(line))
	if b.hears != nil {
		b.hears()
	}
	return len(line), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(slices.Clone(b.lines))
}
