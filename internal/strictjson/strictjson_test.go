package strictjson

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{}`, ""}, {`[]`, ""}, {`null`, ""}, {` {"a":1} `, ""},
		{`{"a":{"b":1},"c":{"b":2}}`, ""}, // other objects
		{`[{"a":1},{"a":2}]`, ""},
		{`{"height":"361402","round":0,"step":3,"height":"5"}`, `duplicate key "height"`},
		{`{"height":"9","Height":"5"}`, `duplicate key "Height"`},
		{`{"k":1,"` + "\u212a" + `":2}`, "duplicate key"}, // Kelvin sign
		{`{"step":1,"` + "\u017f" + `tep":2}`, "duplicate key"},
		{`{"height":1,"\u0068eight":2}`, "duplicate key"},
		{`{"a":[{"b":{"c":1,"c":1}}]}`, `duplicate key "c"`},
		{`{"":1,"":2}`, "duplicate key"},
		{`{} {}`, "something follows its end"},
		{`{}x`, "something follows its end"},
		{``, io.ErrUnexpectedEOF.Error()},
		{`{"a":`, io.ErrUnexpectedEOF.Error()},
		{`{"a":1`, io.ErrUnexpectedEOF.Error()},
		{`{"a" 1}`, "invalid character"},
		{"{\"a\":\"\xff\"}", "not UTF-8"},
		{strings.Repeat("[", 200) + strings.Repeat("]", 200), "too deep"},
	} {
		err := Check([]byte(tt.text))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.text, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
		}
		var v any
		if err := Unmarshal([]byte(tt.text), &v); (err == nil) != (tt.want == "") {
			t.Errorf("Unmarshal %s: %v", tt.text, err)
		}
	}
}

func TestDecodeRefusesUnknownMembers(t *testing.T) {
	var v struct{ A int }
	if err := Decode([]byte(`{"a":1,"b":2}`), &v); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Fatal(err)
	}
	if err := Unmarshal([]byte(`{"a":3,"b":2}`), &v); err != nil || v.A != 3 {
		t.Fatal(v, err)
	}
	if err := Decode([]byte(`{"a":1,"A":2}`), &v); !errors.Is(err, ErrDuplicate) {
		t.Fatal(err)
	}
}

// All letters that encoding/json takes for one are one here too.
func TestFoldsAsEncodingJSON(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if next := unicode.SimpleFold(r); fold(string(r)) != fold(string(next)) {
			t.Errorf("%q and %q are two", r, next)
		}
	}
}

// Whatever is accepted, encoding/json accepts too, and no object in it holds a
// name twice: written again it has as many members.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"height":"361402","round":0,"step":3,"height":"5"}`))
	f.Add([]byte(`[{"a":{}},1,"x"]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if Check(data) != nil {
			return
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatalf("accepted %q: %v", data, err)
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(again); err != nil {
			t.Fatalf("%q became %q: %v", data, again, err)
		}
	})
}
