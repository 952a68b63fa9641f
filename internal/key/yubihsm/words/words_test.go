package words

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"privyseal/internal/spelling"
)

// example are the words of tmkms' documentation.
const example = "double section release consider diet pilot flip shell mother alone what fantasy much answer lottery crew nut reopen stereo square popular addict just animal"

func parse(t testing.TB, text string) Words {
	t.Helper()
	w, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// must returns what a method of Words returned, as text.
func must(t testing.TB) func([]byte, error) string {
	return func(b []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// TestVectors compares with what others derive: the files of testdata say who.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) { runVectors(t, name) })
	}
}

func runVectors(t *testing.T, name string) {
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var w Words
	var entropy []byte
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		name, want, _ := strings.Cut(rest, " ")
		got := ""
		switch kind {
		case "#":
			continue
		case "entropy":
			if entropy, err = hex.DecodeString(rest); err != nil {
				t.Fatal(err)
			}
			w, got, want = hide(bytes.Clone(entropy)), rest, rest
		case "words":
			if w = parse(t, rest); entropy != nil && !bytes.Equal(**w.entropy, entropy) {
				t.Errorf("%s: %x, want %x", rest, **w.entropy, entropy)
			}
			got, want = must(t)(w.Text()), rest
		case "derive":
			got = hex.EncodeToString([]byte(must(t)(w.derive(strings.Split(name, "/")...))))
		case "password":
			got = must(t)(w.Password(name))
		case "wrap":
			id, err := strconv.ParseUint(name, 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			got = hex.EncodeToString([]byte(must(t)(w.WrapKey(uint16(id)))))
		}
		if got != want {
			t.Errorf("%s: %s", lines.Text(), got)
		}
	}
	if lines.Err() != nil || w.entropy == nil {
		t.Fatalf("no words in %s, %v", name, lines.Err())
	}
}

// The list is BIP 39's, to the byte.
func TestList(t *testing.T) {
	const want = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(english))); got != want || len(list()) != 1<<wordBits {
		t.Errorf("the list of %d words is %s, want %s", len(list()), got, want)
	}
}

// The entropy is HKDF-SHA512 of both random strings, as RFC 5869 has it.
func TestNew(t *testing.T) {
	device, host := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 33)
	mac := func(key []byte, parts ...string) []byte {
		h := hmac.New(sha512.New, key)
		h.Write([]byte(strings.Join(parts, "")))
		return h.Sum(nil)
	}
	want := mac(mac(make([]byte, 64), string(device), string(host)), "yubihsm setup BIP39 derivation", "\x01")[:32]
	w, err := New(device, host)
	if err != nil || !bytes.Equal(**w.entropy, want) {
		t.Fatalf("%v, want %x", err, want)
	}
	if device[0] != 1 || host[0] != 2 {
		t.Error("what was given was changed")
	}
	if _, err := New(device[1:], host); err == nil || !strings.Contains(err.Error(), "not 31 and 33") {
		t.Errorf("31 bytes of the device: %v", err)
	}
	if _, err := New(device, host[2:]); err == nil || !strings.Contains(err.Error(), "not 32 and 31") {
		t.Errorf("31 bytes of the host: %v", err)
	}
}

// Other wrap keys of the same words are other keys.
func TestWrapKeyID(t *testing.T) {
	w := parse(t, example)
	if one, two := must(t)(w.WrapKey(1)), must(t)(w.WrapKey(0xabcd)); one == two || two != must(t)(w.derive("wrap", "0xabcd")) {
		t.Error("the id does not count")
	}
}

// Words are taken as people type them.
func TestTyped(t *testing.T) {
	for _, text := range []string{strings.ToUpper(example), "\n " + strings.ReplaceAll(example, " ", "\t\r\n") + "\n"} {
		if got := must(t)(parse(t, text).Text()); got != example {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// A word that is not in the list is named by its number alone, at every place.
func TestUnknownWord(t *testing.T) {
	for i := range Count {
		all := strings.Fields(example)
		secret := all[i]
		all[i] = secret + "x"
		_, err := Parse([]byte(strings.Join(all, " ")))
		var unknown *UnknownError
		if !errors.As(err, &unknown) || unknown.Number != i+1 || unknown.Nearest() != secret {
			t.Fatalf("%s: %v", all[i], err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if text := fmt.Sprintf(verb, unknown); strings.Contains(text, secret) || !strings.Contains(text, fmt.Sprintf("word %d of 24 is not in the list", i+1)) {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	for typed, want := range map[string]string{
		"releas": "release", "conssider": "consider", "pilut": "pilot", "abscent": "absent", "zooo": "zoo", "cre": "cry",
		"": "act", strings.Repeat("scissors", 1000): "scissors", "\xff\xff": "act",
	} {
		got := nearest(typed)
		if typed == "cre" || typed == "" || typed == "\xff\xff" { // several are as near
			if spelling.Distance(typed[:min(len(typed), 16)], got) != spelling.Distance(typed, want) {
				t.Errorf("%q: %s", typed, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%q: %s, want %s", typed, got, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	all := strings.Fields(example)
	swapped := append([]string{all[1], all[0]}, all[2:]...)
	other := append([]string{"zoo"}, all[1:]...)
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "24 words are needed, and these are 0"},
		{"one missing", strings.Join(all[1:], " "), "these are 23"},
		{"one too much", example + " zoo", "these are 25"},
		{"two swapped", strings.Join(swapped, " "), errChecksum.Error()},
		{"another word", strings.Join(other, " "), errChecksum.Error()},
		{"a file", strings.Repeat("zoo ", 1025), "4100 bytes are not 24 words"},
	} {
		if w, err := Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v, want an error with %q", tt.name, w, err, tt.want)
		}
	}
	for last, valid := 0, 0; last < len(list()); last++ {
		if _, err := Parse([]byte(strings.Join(all[:23], " ") + " " + list()[last])); err == nil {
			valid++
		}
		if last == len(list())-1 && valid != 8 {
			t.Errorf("%d last words are right, want 8, since 3 bits of the last one are entropy", valid)
		}
	}
}

// Nothing shows the words, however deep they stand.
func TestNothingIsPrinted(t *testing.T) {
	w := parse(t, example)
	entropy := bytes.Clone(**w.entropy)
	var out bytes.Buffer
	for _, v := range []any{w, &w, struct{ w Words }{w}, &struct{ W *Words }{&w}, []Words{w}, map[string]any{"w": w}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("words", "w", v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	shown := out.String()
	for _, secret := range []string{"double", "animal", hex.EncodeToString(entropy[:4]), fmt.Sprint(entropy[0], entropy[1]), string(entropy[:4]), fmt.Sprintf("%#v", entropy[:2])} {
		if strings.Contains(shown, strings.TrimSuffix(secret, "}")) {
			t.Errorf("%q is shown", secret)
		}
	}
	for what, got := range map[string]string{"fmt": fmt.Sprint(w), "slog": w.LogValue().String(), "text": must(t)(w.MarshalText())} {
		if got != "24 secret words" {
			t.Errorf("%s shows %q", what, got)
		}
	}
}

// Wiped words are overwritten in every copy, and derive nothing.
func TestWipe(t *testing.T) {
	w := parse(t, example)
	again, entropy := w, **w.entropy
	w.Wipe()
	w.Wipe()
	Words{}.Wipe()
	if !bytes.Equal(entropy, make([]byte, entropySize)) {
		t.Errorf("%x is left", entropy)
	}
	for _, gone := range []Words{w, again, {}} {
		_, err := gone.Text()
		_, passwordErr := gone.Password("operator")
		_, keyErr := gone.WrapKey(1)
		for _, err := range []error{err, passwordErr, keyErr} {
			if !errors.Is(err, ErrNone) {
				t.Errorf("wiped words: %v", err)
			}
		}
	}
}

// FuzzParse: what is accepted is what Text writes, but for capitals and white space.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(strings.Repeat("abandon ", 23) + "art"))
	f.Add([]byte(strings.Repeat("Zoo\n", 23) + "vote"))
	f.Add([]byte("abandon \xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		w, err := Parse(text)
		if !bytes.Equal(text, before) {
			t.Fatal("what was typed was changed")
		}
		if err != nil {
			return
		}
		if got := must(t)(w.Text()); got != strings.ToLower(strings.Join(strings.Fields(string(text)), " ")) {
			t.Fatalf("%q reads as %s", text, got)
		}
	})
}
