package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"privyseal/internal/hostlink"
	"privyseal/internal/nitrohost"
	"privyseal/test/nitro/manners"
)

// script writes a nitro-cli that answers each call as said.
func script(t *testing.T, said func(args string) nitrohost.Said) string {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\ncase \"$*\" in\n"
	for i, c := range calls {
		s := said(c.args)
		for end, out := range map[string][]byte{"out": s.Stdout, "err": s.Stderr} {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.%s", i, end)), out, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text += fmt.Sprintf("%q) cat %s/%d.out; cat %s/%d.err >&2; exit %d;;\n", c.args, dir, i, dir, i, s.Status)
	}
	path := filepath.Join(dir, "nitro-cli")
	if err := os.WriteFile(path, []byte(text+"esac\nexit 99\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// made records by a nitro-cli, and returns what nitro-cli said by that record.
func made(t *testing.T, nitroCLI string) (dir string, entries []Entry) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "seen")
	r, err := newRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.all(t.Context(), &nitrohost.Launcher{Path: nitroCLI}); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Entries []Entry }
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil || json.Unmarshal(text, &manifest) != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return dir, manifest.Entries
}

// A record plays nitro-cli, and what plays it makes the same record.
func TestARecordIsReplayed(t *testing.T) {
	t.Setenv("BACKTRACE", "1")
	first := script(t, func(args string) nitrohost.Said {
		failed := map[string]manners.Failure{calls[3].args: manners.NoSocket, calls[4].args: manners.NoSocket}
		switch f, fails := failed[args]; {
		case fails:
			text, status := f.CLI()
			return nitrohost.Said{Stderr: []byte(text), Status: status}
		case args == calls[5].args:
			text, status := manners.Unopened("/nothing").Process()
			return nitrohost.Said{Stderr: []byte(text), Status: status}
		case args == "--version":
			return nitrohost.Said{Stdout: []byte("Nitro CLI 1.5.0\n")}
		}
		return nitrohost.Said{Stdout: []byte("[]\n"), Stderr: []byte("by ASIAABCDEFGHIJKLMNOP, session_token=abcd\n")}
	})
	dir, entries := made(t, first)
	replay := script(t, func(args string) (s nitrohost.Said) {
		for _, e := range entries {
			if e.Of == "nitro-cli "+args {
				s.Status = e.Status
				s.Stdout, _ = os.ReadFile(filepath.Join(dir, e.Files[0]))
				s.Stderr, _ = os.ReadFile(filepath.Join(dir, e.Files[1]))
			}
		}
		return s
	})
	_, again := made(t, replay)
	if len(entries) != len(calls)+len(facts) || !reflect.DeepEqual(entries[:len(calls)], again[:len(calls)]) {
		t.Errorf("made %+v\nreplayed %+v", entries, again)
	}
	for i, status := range []int{0, 0, 0, 11, 11, 39} {
		if entries[i].Status != status {
			t.Errorf("%s ended with %d", entries[i].Of, entries[i].Status)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "describe.err")); string(text) != "by [left out], [left out]\n" {
		t.Errorf("a secret: %q", text)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "describe.out"): 0o600, filepath.Join(dir, "manifest.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// A folder that is there stays as it is, and a nitro-cli that is not there is recorded too.
func TestRecordsAreNew(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/null"} {
		if _, err := newRecord(dir); err == nil || !strings.Contains(err.Error(), "name a new folder") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	_, entries := made(t, filepath.Join(t.TempDir(), "nothing"))
	if entries[0].Missing == "" || entries[0].Files != nil {
		t.Errorf("%+v", entries[0])
	}
}

// KMS's answers are files, in their order and no more than there can be, with nothing in them
// that looks like a credential; why there are none stands in the manifest.
func TestAnswersOfKMS(t *testing.T) {
	recorded := func(list []hostlink.KMSAnswer, failed error) (*record, []Entry) {
		r, err := newRecord(filepath.Join(t.TempDir(), "seen"))
		if err == nil {
			err = r.answers(list, failed)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r, r.entries
	}
	r, entries := recorded([]hostlink.KMSAnswer{
		{Call: "GenerateDataKey", Raw: []byte("HTTP/1.1 200 OK\r\n\r\n{}")},
		{Call: "Decrypt", Raw: []byte("HTTP/1.1 400 X\r\n\r\nby ASIAABCDEFGHIJKLMNOP"), Error: "refused, session_token=abcd"},
		{Call: "Decrypt by ASIAABCDEFGHIJKLMNOP", Error: "it holds the secret in the clear"},
	}, nil)
	for i, want := range []Entry{
		{Of: "KMS GenerateDataKey", Files: []string{"kms-0.http"}},
		{Of: "KMS Decrypt", Files: []string{"kms-1.http"}, Refused: "refused, [left out]"},
		{Of: "KMS Decrypt by [left out]", Refused: "it holds the secret in the clear", Missing: "there was no answer, or something in it may be secret"},
	} {
		got := entries[i]
		got.Hashes = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, not %+v", got, want)
		}
	}
	for name, want := range map[string]string{"kms-0.http": "HTTP/1.1 200 OK\r\n\r\n{}", "kms-1.http": "HTTP/1.1 400 X\r\n\r\nby [left out]"} {
		if text, err := os.ReadFile(filepath.Join(r.dir, name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if _, entries = recorded(make([]hostlink.KMSAnswer, 100), nil); len(entries) != maxAnswers {
		t.Errorf("%d answers", len(entries))
	}
	for want, failed := range map[string]error{"the enclave has none": nil, "not asked, [left out]": errors.New("not asked, session_token=abcd")} {
		if _, entries = recorded(nil, failed); !reflect.DeepEqual(entries, []Entry{{Of: "KMS", Missing: want}}) {
			t.Errorf("%+v", entries)
		}
	}
}
