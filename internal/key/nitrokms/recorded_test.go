package nitrokms

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/key/nitrokms/kmstest"
)

// outline writes what BER is made of: tags, and how long or in which form lengths are; of
// what is in them, nothing.
func outline(b []byte) string {
	var w strings.Builder
	for len(b) > 0 {
		tag := b[0]
		if len(b) < 2 || tag&0x1f == 0x1f {
			return w.String() + "?"
		}
		n, indefinite, rest, ok := parseLength(b[1:])
		if !ok {
			return w.String() + "?"
		}
		switch {
		case indefinite:
			fmt.Fprintf(&w, "%02x… ", tag) // its end is another element
			b = rest
		case tag&constructed != 0:
			fmt.Fprintf(&w, "%02x(%d: %s) ", tag, n, outline(rest[:n]))
			b = rest[n:]
		case tag == tagOID || tag == tagInteger:
			fmt.Fprintf(&w, "%02x=%x ", tag, rest[:n])
			b = rest[n:]
		default:
			fmt.Fprintf(&w, "%02x:%d ", tag, n)
			b = rest[n:]
		}
	}
	return strings.TrimSpace(w.String())
}

// replay has the client read answers of another boot again. What the enclave refused then is
// refused for the same reason; what it opened has the outline of what the tests' KMS makes,
// and fails where a key is needed that is gone.
func replay(t *testing.T, list []kmstest.Answer) {
	t.Helper()
	f := newFakeKMS(t)
	for _, a := range list {
		if a.Raw == nil {
			continue
		}
		var body recipientAnswer
		if resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(a.Raw)), nil); err == nil {
			json.NewDecoder(resp.Body).Decode(&body) // what it cannot read, the client refuses
		}
		f.answer = func(string) string { return string(a.Raw) }
		k := f.client(func(c *Config) {
			if body.KeyId != "" {
				c.KeyARN = body.KeyId
			}
		})
		op, _, _ := strings.Cut(a.Call, " ")
		_, _, err := k.attested(t.Context(), creds, op, func(r recipientInfo) any { return r })
		if a.Refused != "" {
			if err == nil || err.Error() != a.Refused {
				t.Errorf("%s was refused with\n%s\nand is now with\n%v", a.Call, a.Refused, err)
			}
			continue
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != errAnswer || e.Message != errEnvelope.Error() {
			t.Errorf("%s was taken, and now: %v", a.Call, err)
			continue
		}
		if _, ok := parseEnvelope(body.CiphertextForRecipient); !ok {
			t.Errorf("%s has no envelope", a.Call)
		}
		ours, err := kmstest.Seal(recipient(t).PublicKey(), make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := outline(body.CiphertextForRecipient), outline(ours); got != want {
			t.Errorf("%s has an envelope of\n%s\nand the tests' KMS makes\n%s", a.Call, got, want)
		}
	}
}

// Each folder that was recorded on a real instance is read again: those in the shared
// vectors, and the one that PRIVYSEAL_CAPTURE names.
func TestCaptures(t *testing.T) {
	dirs, err := filepath.Glob("../../../../shared/vectors/nitro/capture*")
	if err != nil {
		t.Fatal(err)
	}
	if named := os.Getenv("PRIVYSEAL_CAPTURE"); named != "" {
		dirs = append(dirs, named)
	}
	for _, dir := range dirs {
		list, err := kmstest.Recorded(dir)
		if err != nil || len(list) == 0 {
			t.Errorf("%s has %d answers of KMS, %v", dir, len(list), err)
		}
		replay(t, list)
	}
}

// record writes a sample as `privyseal nitro capture` does, and reads it again.
func record(t *testing.T, list []Sample) []kmstest.Answer {
	t.Helper()
	answers, err := kmstest.Recorded(recordIn(t, list))
	if err != nil || len(answers) != len(list) {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	return answers
}

// recordIn returns the folder of it.
func recordIn(t *testing.T, list []Sample) string {
	t.Helper()
	dir := t.TempDir()
	var entries []map[string]any
	for i, s := range list {
		name := fmt.Sprintf("kms-%d.http", i)
		e := map[string]any{"Of": "KMS " + s.Call, "Files": []string{name}, "Hashes": []string{fmt.Sprintf("%x", sha256.Sum256(s.Raw))}}
		if s.Err != nil {
			e["Refused"] = s.Err.Error()
		}
		entries = append(entries, e)
		if err := os.WriteFile(filepath.Join(dir, name), s.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A record that was changed, or is not whole, is none.
func TestRecordsThatAreNone(t *testing.T) {
	list := []Sample{{Call: "Decrypt", Raw: []byte("HTTP/1.1 200 OK\r\n\r\n")}}
	for name, spoil := range map[string]func(dir string) error{
		"changed": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "kms-0.http"), []byte("HTTP/1.1 201"), 0o600)
		},
		"without a file":     func(dir string) error { return os.Remove(filepath.Join(dir, "kms-0.http")) },
		"without a manifest": func(dir string) error { return os.Remove(filepath.Join(dir, "manifest.json")) },
		"half a manifest":    func(dir string) error { return os.Truncate(filepath.Join(dir, "manifest.json"), 20) },
	} {
		dir := recordIn(t, list)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if answers, err := kmstest.Recorded(dir); err == nil {
			t.Errorf("%s: %+v", name, answers)
		}
	}
}

// What another boot recorded is read again, and an answer that differs from the tests' KMS is
// one that the next real record shows.
func TestReplay(t *testing.T) {
	f := newFakeKMS(t)
	other, err := NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	k := f.client()
	k.recipient = func() (*Recipient, error) { return other, nil }
	list := k.Sample(t.Context(), creds, "test-1", []byte{2})
	for i, s := range list {
		if !errors.Is(s.Err, calls[i].want) {
			t.Errorf("%s: %v", s.Call, s.Err)
		}
	}
	replay(t, record(t, list))

	// A KMS that writes its envelope in another form is opened, and differs.
	f.change = func(_ string, a map[string]any) {
		a["CiphertextForRecipient"] = envelopeOf(t, other, false)
	}
	var e *Error
	if _, _, err := k.attested(t.Context(), creds, "Decrypt", func(r recipientInfo) any {
		return decryptRequest{KeyId: keyARN, CiphertextBlob: ciphertext(t, []byte("x")), Recipient: r}
	}); err != nil {
		t.Errorf("another form: %v", err)
	}
	if mine, theirs := outline(envelopeOf(t, other, false)), outline(envelopeOf(t, other, true)); mine == theirs || strings.Contains(mine+theirs, "?") {
		t.Errorf("two forms look the same: %s", mine)
	}
	// One that makes no envelopes is refused, in the words of then.
	f.change = func(_ string, a map[string]any) { a["CiphertextForRecipient"] = make([]byte, 493) }
	list = k.Sample(t.Context(), creds, "test-1", []byte{2})
	if len(list) != 1 || !errors.As(list[0].Err, &e) || e.Message != errEnvelope.Error() {
		t.Fatalf("%+v", list)
	}
	replay(t, record(t, list))
}

// The outline of AWS's published envelope is that of the tests' KMS.
func TestOutline(t *testing.T) {
	ours, err := kmstest.Seal(recipient(t).PublicKey(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := outline(ours), outline(vector(t, "kms-ciphertext-for-recipient.ber")); got != want {
		t.Errorf("\n%s\n%s", got, want)
	}
	for _, b := range [][]byte{{4}, {4, 5, 1}, {0x1f, 1, 1}} {
		if got := outline(b); got != "?" {
			t.Errorf("%x: %s", b, got)
		}
	}
}
