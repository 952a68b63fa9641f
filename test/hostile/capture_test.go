package hostile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/cli"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms/kmstest"
	"privyseal/internal/ops/nitro/capture"
	"privyseal/internal/provider"
	"privyseal/test/nitro/rig"
)

// capture has `privyseal nitro capture` record what KMS says to the enclave.
func (e *running) capture(v *validator) []kmstest.Answer {
	t := e.w.t
	t.Helper()
	dir := filepath.Join(t.TempDir(), "seen")
	house := &provider.House{App: &cli.App{HomeFlag: t.TempDir()}}
	cmd := capture.NewCommand(house, func() (string, error) { return "/nothing/nitro-cli", nil }, func(context.Context) ([]hostlink.KMSAnswer, error) {
		reply, err := e.ask(hostlink.Request{Sample: &hostlink.Sample{ChainID: v.chain, Public: v.public.Bytes(), Credentials: credentials}})
		return reply.Answers, err
	})
	cmd.SetArgs([]string{dir})
	cmd.SetOut(&bytes.Buffer{})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e.w.mu.Lock()
		e.w.streams = append(e.w.streams, bytes.NewBuffer(text)) // the world searches it for secrets
		e.w.mu.Unlock()
	}
	list, err := kmstest.Recorded(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A host that reads what KMS says to the enclave, and plays KMS by it, comes no further: with
// the answers of a sample no key opens, in the boot that they were for and in the next, and
// what was refused is refused for the same reason.
func TestRecordedAnswersOfKMS(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	before := len(w.kms.Calls())
	list := e.capture(v)
	if len(list) != 5 || len(w.kms.Calls())-before != 5 {
		t.Fatalf("%d answers to %d calls", len(list), len(w.kms.Calls())-before)
	}
	for i, want := range []string{"", "", "damaged", "damaged", "not its attestation document"} {
		if a := list[i]; (a.Refused == "") != (want == "") || !strings.Contains(a.Refused, want) || !bytes.HasPrefix(a.Raw, []byte("HTTP/1.1 ")) {
			t.Errorf("%s: %q, %q", a.Call, a.Refused, a.Raw)
		}
	}
	e.halt()
	replays := func(e *running, taken string) {
		t.Helper()
		for i, a := range list {
			w.kms.Change(func(_ rig.KMSCall, answer *rig.KMSAnswer) { answer.Wire = a.Raw })
			want := a.Refused
			if want == "" {
				want = taken
			}
			if i == 0 {
				continue // of another call
			}
			e.refusesToBoot(v, a.Call, want)
		}
		w.kms.Change(nil)
	}
	e = w.boot(w.honest(d))
	replays(e, "cannot open the envelope")
	list = e.capture(v)
	replays(e, "damaged")
	e.signsOn(v, d, 1)
}

// What KMS must not say in the clear, and says, is in no record.
func TestRecordsHaveNoPlaintext(t *testing.T) {
	ofNitro(t)
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	const clear = "VGhpcyBpcyB0aGUga2V5IGluIHRoZSBjbGVhci4uLi4="
	w.mu.Lock()
	w.secrets = append(w.secrets, []byte(clear))
	w.mu.Unlock()
	w.kms.Change(func(_ rig.KMSCall, a *rig.KMSAnswer) { a.Body["Plaintext"] = clear })
	list := e.capture(v)
	if len(list) != 1 || list[0].Raw != nil || !strings.Contains(list[0].Refused, "in the clear") {
		t.Errorf("%+v", list)
	}
	w.kms.Change(nil)
	e.halt()
}
