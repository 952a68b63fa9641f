package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"
)

var forms = []string{"s3cr3t", fmt.Sprintf("%x", "s3cr3t"), fmt.Sprintf("%X", "s3cr3t"), fmt.Sprint([]byte("s3cr3t"))[1:19], "czNjcjN0"}

// printed is what all verbs of fmt, slog and JSON make of values.
func printed(values ...any) string {
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%U", "%b", "%o", "%O", "%e", "%p", "%w", "%T", "%z"} {
			fmt.Fprintf(&out, verb+"\n", v)
			fmt.Fprintln(&out, fmt.Errorf(verb, v)) // which treats %w in its own way
		}
		fmt.Fprintln(&out, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("a", "v", v, slog.Group("g", slog.Any("v", v)))
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	return out.String()
}

// shows fails the test if text has a secret.
func shows(t *testing.T, text string) {
	t.Helper()
	for _, form := range forms {
		if i := bytes.Index([]byte(text), []byte(form)); i >= 0 {
			t.Errorf("%q was printed: …%.200s", form, text[max(0, i-100):])
		}
	}
}

// No way of printing shows a text, wherever it is.
func TestTexts(t *testing.T) {
	text := New("s3cr3t")
	if text.Reveal() != "s3cr3t" || !text.Equal(New("s3cr3t")) || text.Equal(Text{}) || (Text{}).Reveal() != "" {
		t.Fatal("the test has no secret")
	}
	aws := AWS{AccessKeyID: "AKID", SecretAccessKey: text, SessionToken: text, Expires: time.Unix(1e9, 0)}
	out := printed(text, &text, []Text{text}, map[string]Text{"": text}, struct{ t Text }{text}, struct{ T *Text }{&text},
		aws, &aws, []AWS{aws}, struct{ a AWS }{aws}, struct{ A *AWS }{&aws})
	shows(t, out)
	if !bytes.Contains([]byte(out), []byte("{AKID secret secret ")) {
		t.Errorf("the access key's id was not printed")
	}
}

// Nor bytes, and those of a key.
func TestKeys(t *testing.T) {
	hidden := NewBytes([]byte("s3cr3t"))
	key := Key{ChainID: "test-1", KeyType: "ed25519", Public: []byte{1}, Secret: hidden}
	out := printed(hidden, &hidden, []Bytes{hidden}, map[string]Bytes{"": hidden}, struct{ b Bytes }{hidden}, struct{ B *Bytes }{&hidden},
		key, &key, []Key{key}, []*Key{&key}, map[string]Key{"": key}, struct{ k Key }{key}, struct{ K *Key }{&key})
	shows(t, out)
	if !bytes.Contains([]byte(out), []byte(`secret of the ed25519 key 01… for chain "test-1"`)) {
		t.Errorf("what is public was not printed: %s", out)
	}
}

func TestBytes(t *testing.T) {
	b := NewBytes([]byte("s3cr3t"))
	copied := b
	if string(b.Reveal()) != "s3cr3t" || !b.Equal(NewBytes([]byte("s3cr3t"))) || b.Equal(NewBytes([]byte("s3cr3x"))) || b.Equal(Bytes{}) || !(Bytes{}).Equal(NewBytes(nil)) || (Bytes{}).Reveal() != nil {
		t.Error("other bytes")
	}
	b.Clear()
	if !copied.Equal(NewBytes(make([]byte, 6))) {
		t.Errorf("after Clear a copy has %q", copied.Reveal())
	}
	(Bytes{}).Clear()
}
