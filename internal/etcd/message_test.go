package etcd

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// The key and the values of test/vectors/etcd.
var (
	vectorKey  = "/privyseal/chain-1/" + strings.Repeat("0f", 20)
	vectorOld  = append([]byte{0, 1, 255}, strings.Repeat("o", 600)...)
	vectorNext = append([]byte{255, 0}, strings.Repeat("n", 700)...)
)

// vector is one line of testdata/messages.txt.
type vector struct {
	name, text string
	message    []byte
}

// vectors reads the golden messages.
func vectors(t testing.TB) (list []vector) {
	t.Helper()
	raw, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		code, text, _ := strings.Cut(rest, " ")
		b, err := hex.DecodeString(strings.TrimPrefix(code, "-"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list = append(list, vector{name, text, b})
	}
	return list
}

// requests are the messages that we send, by the name and text of a vector.
var requests = map[string][]byte{
	"request/range now":   appendRange(nil, vectorKey, 0),
	"request/range at 12": appendRange(nil, vectorKey, 12),
	"request/txn create":  Txn{Key: vectorKey, New: vectorNext}.append(nil),
	"request/txn replace": Txn{Key: vectorKey, Old: vectorOld, Revision: 1 << 40, New: vectorNext}.append(nil),
	"request/txn empty":   Txn{Key: vectorKey, Revision: 1 << 40}.append(nil),
	"request/keys of 10":  appendKeys(nil, "/privyseal/", 10),
	"request/status":      nil,
	"request/members":     nil,
	"request/alarms":      nil,
	"request/user":        appendBytes(nil, 1, []byte("signer-1")),
	"request/role":        appendBytes(nil, 1, []byte("signers")),
}

// decoded decodes an answer of a kind and writes down what it is.
func decoded(kind string, b []byte) (string, error) {
	header := func(h Header) string {
		return fmt.Sprintf("cluster=%d member=%d revision=%d term=%d", h.Cluster, h.Member, h.Revision, h.Term)
	}
	value := func(v Value) string {
		return fmt.Sprintf("value=%x created=%d modified=%d", v.Bytes, v.Created, v.Modified)
	}
	switch kind {
	case "answer/range":
		var r Range
		err := r.decode(vectorKey, b)
		return header(r.Header) + " " + value(r.Value), err
	case "answer/keys":
		var k Keys
		err := k.decode("/privyseal/", 3, b)
		return fmt.Sprintf("%s %q more=%v", header(k.Header), k.Names, k.More), err
	case "answer/txn":
		var r TxnResult
		err := r.decode(vectorKey, b)
		return fmt.Sprintf("%s won=%v %s", header(r.Header), r.Won, value(r.Now)), err
	case "answer/status":
		var s Status
		err := s.decode(b)
		return fmt.Sprintf("%s version=%q leader=%d index=%d applied=%d term=%d size=%d inuse=%d quota=%d learner=%v errors=%q",
			header(s.Header), s.Version, s.Leader, s.Index, s.Applied, s.Term, s.Size, s.InUse, s.Quota, s.Learner, s.Errors), err
	case "answer/members":
		var m Members
		err := m.decode(b)
		text := header(m.Header)
		for _, m := range m.Members {
			text += fmt.Sprintf(" %d %q %q %v", m.ID, m.Name, m.ClientURLs, m.Learner)
		}
		return text, err
	case "answer/alarms":
		var a Alarms
		err := a.decode(b)
		text := header(a.Header)
		for _, a := range a.Alarms {
			text += fmt.Sprintf(" %d %q", a.Member, a.Kind)
		}
		return text, err
	case "answer/user":
		var u User
		err := u.decode(b)
		return fmt.Sprintf("%s %q", header(u.Header), u.Roles), err
	case "answer/role":
		var r Role
		err := r.decode(b)
		text := header(r.Header)
		for _, p := range r.Permissions {
			text += fmt.Sprintf(" %v %v %q %q", p.Read, p.Write, p.Key, p.End)
		}
		return text, err
	}
	panic(kind)
}

// Every message of etcd's own types is what we send, or is read as what is in it.
func TestVectors(t *testing.T) {
	seen := 0
	for _, v := range vectors(t) {
		if strings.HasPrefix(v.name, "request/") {
			seen++
			name := strings.TrimSpace(v.name + " " + v.text)
			if ours, ok := requests[name]; !ok || !bytes.Equal(ours, v.message) {
				t.Errorf("%s: we send\n%x, etcd's client\n%x", name, ours, v.message)
			}
			continue
		}
		text, err := decoded(v.name, v.message)
		if err != nil || text != v.text {
			t.Errorf("%s: %v\n%s, not\n%s", v.name, err, text, v.text)
		}
		for n := range v.message {
			if _, err := decoded(v.name, v.message[:n]); err == nil && n > 0 && !wholeFields(v.message[:n]) {
				t.Errorf("%s: its first %d bytes are read", v.name, n)
			}
		}
	}
	if seen != len(requests) {
		t.Errorf("%d requests in the file, and we have %d", seen, len(requests))
	}
}

// wholeFields reports whether bytes are a message, although a shorter one.
func wholeFields(b []byte) bool {
	return walk("", b, shape{}, func(int, uint64, []byte) error { return nil }) == nil
}

// What no member of etcd says is refused.
func TestWrongMessages(t *testing.T) {
	field := func(n protowire.Number, b []byte) []byte { return appendField(nil, n, b) }
	number := func(n protowire.Number, v uint64) []byte { return appendNumber(nil, n, v) }
	ids := append(number(1, 7), number(2, 8)...)
	for name, b := range map[string][]byte{
		"twice":        append(field(1, ids), field(1, ids)...),
		"below zero":   field(1, append(ids, number(3, 1<<63)...)),
		"another type": number(1, 1),
		"cut off":      field(1, ids)[:3],
	} {
		if text, err := decoded("answer/range", b); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
	named := func(key string, more ...byte) []byte { return field(2, append(field(1, []byte(key)), more...)) }
	for name, b := range map[string][]byte{
		"another's key": named("/other/a"),
		"a value":       named("/privyseal/a", field(5, []byte("/privyseal/v"))...),
		"too many keys": bytes.Repeat(named("/privyseal/a"), 4),
	} {
		if text, err := decoded("answer/keys", append(field(1, ids), b...)); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
	for want, h := range map[bool]Header{true: {Cluster: 1, Member: 2}, false: {Member: 2}} {
		if err := h.check(); (err == nil) != want {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if (&Header{Cluster: 1}).check() == nil {
		t.Error("an answer of no member")
	}
}
