package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"
)

var forms = []string{"s3cr3t", fmt.Sprintf("%x", "s3cr3t"), fmt.Sprintf("%X", "s3cr3t"), fmt.Sprint([]byte("s3cr3t")), "czNjcjN0"}

// No way of printing shows a text, wherever it is.
func TestTexts(t *testing.T) {
	text := New("s3cr3t")
	if text.Reveal() != "s3cr3t" || !text.Equal(New("s3cr3t")) || text.Equal(Text{}) || (Text{}).Reveal() != "" {
		t.Fatal("the test has no secret")
	}
	aws := AWS{AccessKeyID: "AKID", SecretAccessKey: text, SessionToken: text, Expires: time.Unix(1e9, 0)}
	var out bytes.Buffer
	for _, v := range []any{
		text, &text, []Text{text}, map[string]Text{"": text}, struct{ t Text }{text}, struct{ T *Text }{&text},
		aws, &aws, []AWS{aws}, struct{ a AWS }{aws}, struct{ A *AWS }{&aws},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%U", "%b", "%o", "%e", "%p", "%w", "%z"} {
			fmt.Fprintf(&out, verb, v)
		}
		fmt.Fprint(&out, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("a", "v", v, slog.Group("g", slog.Any("v", v)))
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	for _, form := range forms {
		if bytes.Contains(out.Bytes(), []byte(form)) {
			t.Errorf("%q was printed", form)
		}
	}
	if !bytes.Contains(out.Bytes(), []byte("{AKID secret secret ")) {
		t.Errorf("the access key's id was not printed")
	}
}

// Neither a print verb nor a logger shows what is secret of a key.
func TestKeys(t *testing.T) {
	key := Key{ChainID: "test-1", KeyType: "ed25519", Public: []byte{1}, Secret: []byte("s3cr3t")}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		fmt.Fprintf(&out, verb, key)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("a", "key", key)
	}
	for _, form := range forms {
		if bytes.Contains(out.Bytes(), []byte(form)) {
			t.Errorf("%q was printed", form)
		}
	}
	if !bytes.Contains(out.Bytes(), []byte(`secret of the ed25519 key 01… for chain "test-1"`)) {
		t.Errorf("what is public was not printed: %s", &out)
	}
}
