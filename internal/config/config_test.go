package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/secret"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// full has every key there is.
const full = `listen = "127.0.0.1:26661"
[log]
level  = "debug"
format = "json"

[[chain]]
id       = "chain-1"
provider = "soft"
key      = "keys/chain-1.key"
state    = "/var/lib/privyseal/chain-1.mark"
identity = "identity.key"
imported_from = ["/old/priv_validator_key.json"]
node = [
  { name = "a", addr = "unix:///run/node/privval.sock", peer_uid = 998 }, # a comment
  { addr = "tcp://[::1]:26659" },
]
witness = ["http://127.0.0.1:26657", "https://rpc.example.org/chain-1"]
witness_wait = "1m"
max_height = 100
height_burst = 1_000
height_per_second = 20
timeout = "30s"
allow_sign_bytes = true
allow_raw_bytes = true

[[chain]]
id       = "chain-1"
name     = "chain-2"
provider = "soft"
key      = "keys/chain-2.key"
state    = "state/chain-2.mark"
[[chain.node]]
addr = "unix:///run/node2/privval.sock"

[[chain]]
id       = "chain-3"
provider = "nitro"
enclave  = "main"
key      = "keys/chain-3.wrapped"
state    = "state/chain-3.mark"
node     = [ { addr = "unix:///run/node3/privval.sock" } ]

[enclave.main.credentials]
access_key_id     = "AKIA"
secret_access_key = "s3cr3t"
session_token     = "t0k3n"

[enclave.main]
eif          = "privyseal.eif"
cid          = 20
memory_mib   = 128
cpu_count    = 4
nitro_cli    = "/usr/bin/nitro-cli"
transport    = "vsock"
stop_enclave = true

[enclave.1_other]
eif = "other.eif"
`

// kinds are those of a build with key files and Nitro Enclaves.
var kinds = config.Kinds{{Provider: "soft"}, nitroKind()}

func nitroKind() config.Kind {
	kind := nitro.Kind()
	kind.Provider = "nitro"
	return kind
}

var ignorePlaces = cmpopts.IgnoreUnexported(config.Config{})

func TestParse(t *testing.T) {
	got, err := kinds.Parse("/home/p/privyseal.toml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(998)
	want := &config.Config{
		Listen: "127.0.0.1:26661",
		Log:    config.Log{Level: "debug", Format: "json"},
		Chains: []config.Chain{{
			ID: "chain-1", Name: "chain-1", Provider: "soft", Key: "keys/chain-1.key", State: "/var/lib/privyseal/chain-1.mark", Identity: "identity.key",
			ImportedFrom: []string{"/old/priv_validator_key.json"},
			Nodes:        []config.Node{{Name: "a", Addr: "unix:///run/node/privval.sock", PeerUID: &uid}, {Name: "node2", Addr: "tcp://[::1]:26659"}},
			MaxHeight:    100, HeightBurst: 1000, HeightPerSecond: 20, Timeout: config.Duration{Duration: 30 * time.Second},
			Witness: []string{"http://127.0.0.1:26657", "https://rpc.example.org/chain-1"}, WitnessWait: config.Duration{Duration: time.Minute},
			AllowSignBytes: true, AllowRawBytes: true,
		}, {
			ID: "chain-1", Name: "chain-2", Provider: "soft", Key: "keys/chain-2.key", State: "state/chain-2.mark",
			Nodes:       []config.Node{{Name: "node1", Addr: "unix:///run/node2/privval.sock"}},
			HeightBurst: 100_000, HeightPerSecond: 10, Timeout: config.Duration{Duration: 10 * time.Second}, WitnessWait: config.Duration{Duration: 30 * time.Second},
		}, {
			ID: "chain-3", Name: "chain-3", Provider: "nitro", Table: "main", Key: "keys/chain-3.wrapped", State: "state/chain-3.mark",
			Nodes:       []config.Node{{Name: "node1", Addr: "unix:///run/node3/privval.sock"}},
			HeightBurst: 100_000, HeightPerSecond: 10, Timeout: config.Duration{Duration: 10 * time.Second}, WitnessWait: config.Duration{Duration: 30 * time.Second},
		}},
		Tables: map[string]map[string]config.Section{"enclave": {
			"main": &nitro.Enclave{
				EIF: "privyseal.eif", CID: 20, MemoryMiB: 128, CPUCount: 4, NitroCLI: "/usr/bin/nitro-cli", Transport: "vsock", StopEnclave: true,
				Credentials: nitro.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secret.New("s3cr3t"), SessionToken: secret.New("t0k3n")},
			},
			"1_other": &nitro.Enclave{EIF: "other.eif", CPUCount: 2, NitroCLI: "nitro-cli"},
		}},
	}
	if diff := cmp.Diff(want, got, ignorePlaces); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for want, parts := range map[int][]any{
		3:  {"log", "level"},
		14: {"chain", 0, "node", 0, "peer_uid"},
		15: {"chain", 0, "node", 1, "name"}, // absent: the node's line
		26: {"chain", 1, "timeout"},         // absent: the chain's line
		33: {"chain", 1, "node", 0, "addr"},
		6:  {"chain"},
		43: {"enclave", "main", "credentials"},
		50: {"enclave", "main", "cid"},
		57: {"enclave", "1_other", "cid"}, // absent: the enclave's line
		0:  {"nothing"},
	} {
		if got := got.Line(parts...); got != want {
			t.Errorf("%v: line %d, want %d", parts, got, want)
		}
	}
	for s, want := range map[string][]string{"chain-1": {"chain-1"}, "chain-2": {"chain-2"}, "chain-4": nil} {
		var names []string
		for _, ch := range got.Find(s) {
			names = append(names, ch.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("Find(%q) = %v, want %v", s, names, want)
		}
	}
	for in, want := range map[string]string{"": "", "/abs": "/abs", "/abs/": "/abs", "/a/../b": "/b", "./keys//k/": "/home/p/keys/k", "keys/k": "/home/p/keys/k"} {
		if got := got.Path(in); got != want {
			t.Errorf("path of %q is %q, want %q", in, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	cases, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range strings.Split(string(cases), "===\n") {
		file, want, _ := strings.Cut(c, "---\n")
		_, err := kinds.Parse("privyseal.toml", []byte(withoutPreamble(file)))
		var problems *config.Error
		if !errors.As(err, &problems) {
			t.Errorf("accepted, or another error: %v\n%s", err, file)
			continue
		}
		if diff := cmp.Diff(strings.TrimSpace(want), err.Error()); diff != "" {
			t.Errorf("-want +got\n%s\n%s", diff, file)
		}
	}
}

// An enclave refuses the whole of a boot that is beyond its limits; the config has
// the same ones, and says so before.
func TestLimitsOfAnEnclave(t *testing.T) {
	text := func(provider string, nodes ...int) string {
		var b strings.Builder
		if provider == "nitro" {
			b.WriteString("[enclave.main]\neif = \"a.eif\"\n")
		}
		for i, n := range nodes {
			fmt.Fprintf(&b, "[[chain]]\nid = \"c%d\"\nprovider = %q\nkey = \"k%d\"\nstate = \"s%d\"\n", i, provider, i, i)
			if provider == "nitro" {
				b.WriteString("enclave = \"main\"\n")
			}
			b.WriteString("node = [")
			for j := range n {
				fmt.Fprintf(&b, "{ addr = \"unix:///%d/%d\" },", i, j)
			}
			b.WriteString("]\n")
		}
		return b.String()
	}
	many := func(chains, nodes int) []int { return slices.Repeat([]int{nodes}, chains) }
	for _, c := range []struct {
		name, provider string
		nodes          []int
		want           []string // one part of each problem
	}{
		{"all nodes of a chain", "nitro", []int{64}, nil},
		{"one more", "nitro", []int{65}, []string{`line 9: chain "c0": 65 nodes; in an enclave a chain has at most 64`}},
		{"all nodes of all chains", "nitro", many(4, 64), nil},
		{"one more", "nitro", append(many(4, 64), 1, 1), []string{`chain "c4": enclave main serves at most 256 nodes of all its chains, and this makes 257`}},
		{"all chains", "nitro", many(128, 2), nil},
		{"two more", "nitro", many(130, 1), []string{`chain "c128": enclave main signs for at most 128 chains; give this one another enclave`}},
		{"outside of an enclave", "soft", many(130, 65), nil},
	} {
		_, err := kinds.Parse("privyseal.toml", []byte(text(c.provider, c.nodes...)))
		var refused *config.Error
		if errors.As(err, &refused); refused == nil {
			refused = &config.Error{}
		}
		if len(refused.Problems) != len(c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for i, want := range c.want {
			p := refused.Problems[i]
			if got := fmt.Sprintf("line %d: %s", p.Line, p.Text); !strings.Contains(got, want) {
				t.Errorf("%s: %s", c.name, got)
			}
		}
	}
}

// withoutPreamble cuts the comment on testdata/refused.txt itself.
func withoutPreamble(file string) string {
	if !strings.HasPrefix(file, "# Config files that are refused.") {
		return file
	}
	lines := strings.SplitAfterN(file, "\n", 3)
	return lines[2]
}

// The list of keys is the struct's; those of providers have no other list.
func TestKeysAreTheStructs(t *testing.T) {
	var want []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		if prefix != "" {
			want = append(want, prefix)
			prefix += "."
		}
		switch {
		case of.Kind() == reflect.Slice || of.Kind() == reflect.Map:
			walk(prefix+"*", of.Elem())
		case of.Kind() == reflect.Pointer:
			walk(strings.TrimSuffix(prefix, "."), of.Elem())
		case of.Kind() == reflect.Struct && of != reflect.TypeFor[config.Duration]() && of != reflect.TypeFor[secret.Text]():
			for i := range of.NumField() {
				if f := of.Field(i); f.IsExported() && f.Tag.Get("toml") != "-" {
					walk(prefix+f.Tag.Get("toml"), f.Type)
				}
			}
		}
	}
	walk("", reflect.TypeFor[config.Config]())
	slices.Sort(want)
	want = slices.Compact(want) // a pointer and what it points to
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(config.Kinds{{Provider: "soft"}}.AllKeys()))); diff != "" {
		t.Errorf("-struct +keys\n%s", diff)
	}
}

func TestLoadLooksAtTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), config.FileName)
	if _, err := kinds.Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "privyseal init") {
		t.Errorf("missing file: %v", err)
	}
	withoutSecrets := strings.Replace(full, full[strings.Index(full, "[enclave.main.credentials]"):strings.Index(full, "[enclave.main]")], "", 1)
	if err := os.WriteFile(path, []byte(withoutSecrets), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o600, 0o644, 0o620, 0o602, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := kinds.Load(path)
		if loose := mode&0o022 != 0; loose != (err != nil) {
			t.Errorf("mode %#o: %v", mode, err)
		} else if loose && !strings.Contains(err.Error(), "chmod go-w "+path) {
			t.Errorf("mode %#o: the error has no cure: %v", mode, err)
		}
	}
	if _, err := kinds.Load(filepath.Dir(path)); err == nil {
		t.Error("a folder was loaded")
	}
	pipe := filepath.Join(t.TempDir(), config.FileName)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kinds.Load(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a named pipe: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, config.MaxFileSize+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := kinds.Load(path); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("an oversize file: %v", err)
	}
}

// A file with credentials is for its owner alone, and nothing shows them.
func TestCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), config.FileName)
	if err := os.WriteFile(path, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := kinds.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if secret := nitro.Enclaves(c)["main"].Credentials.SecretAccessKey; secret.Reveal() != "s3cr3t" {
		t.Error("the test has no secret")
	}
	var out bytes.Buffer
	for _, v := range []any{c, *c, c.Tables, nitro.Enclaves(c)["main"], nitro.Enclaves(c)["main"].Credentials, nitro.Enclaves(c)["main"].Credentials.SecretAccessKey} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%z"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("a", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("a", "v", v)
	}
	for _, secret := range []string{"s3cr3t", "t0k3n", fmt.Sprintf("%x", "s3cr3t"), fmt.Sprintf("%X", "s3cr3t")} {
		if bytes.Contains(out.Bytes(), []byte(secret)) {
			t.Errorf("%q was printed", secret)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o610} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := kinds.Load(path); err == nil || !strings.Contains(err.Error(), ":43: there are credentials") || !strings.Contains(err.Error(), "chmod 0600 "+path) {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
}

func TestAppendAnEnclave(t *testing.T) {
	path := filepath.Join(t.TempDir(), config.FileName)
	if err := config.WriteNew(path, kinds.New(newChain("a"))); err != nil {
		t.Fatal(err)
	}
	ch := newChain("b")
	ch.Provider, ch.Table = "nitro", "main"
	if err := kinds.Append(path, nil, ch); err == nil || !strings.Contains(err.Error(), "there is no [enclave.main]") {
		t.Errorf("without its enclave: %v", err)
	}
	e := &nitro.Enclave{EIF: "privyseal.eif"}
	e.Fill(func(string) bool { return false })
	e.CID, e.MemoryMiB, e.CPUCount = 5, 64, 1 // the least, where 16 is an example
	e.Credentials = nitro.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secret.New("s3cr3t")}
	tables := map[string]map[string]config.Section{"enclave": {"main": e}}
	if err := kinds.Append(path, tables, ch); err != nil {
		t.Fatal(err)
	}
	c, err := kinds.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := kinds.New(newChain("a"), ch)
	want.Tables = tables
	if diff := cmp.Diff(want, c, ignorePlaces); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := kinds.Append(path, tables); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Errorf("the same enclave again: %v", err)
	}
	// Credentials do not get into a file that others read.
	before := kinds.New(newChain("a")).Render()
	if err := errors.Join(os.WriteFile(path, before, 0o640), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if err := kinds.Append(path, tables, ch); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("into a file of mode 0640: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a refused append changed the file")
	}
}

func newChain(id string) config.Chain {
	ch := config.NewChain(id, "")
	ch.Nodes = []config.Node{{Name: "node1", Addr: "unix:///run/" + id + ".sock"}}
	return ch
}

func TestWriteNewNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), config.FileName)
	want := kinds.New(newChain("a"))
	if err := config.WriteNew(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := kinds.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, ignorePlaces); diff != "" {
		t.Errorf("-written +read\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := config.WriteNew(path, kinds.New(newChain("b"))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
	if err := config.WriteNew(path+"2", kinds.New(config.NewChain("no-node", ""))); err == nil {
		t.Error("wrote a config that does not load")
	}
	onlyFile(t, path)
}

func TestAppendTouchesNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), config.FileName)
	whole := full[:strings.Index(full, "[enclave.main.credentials]")] + "[enclave.main]\neif = \"a.eif\"\n"
	before := strings.TrimSuffix(whole, "\n") // not even its last line is whole
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := kinds.Append(path, nil, newChain("chain-4")); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(after), whole) {
		t.Fatalf("the old text changed: %v\n%s", err, after)
	}
	c, err := kinds.Load(path)
	if err != nil || len(c.Chains) != 4 {
		t.Fatalf("%v, %v", c, err)
	}
	if diff := cmp.Diff(newChain("chain-4"), c.Chains[3]); diff != "" {
		t.Errorf("-appended +read\n%s", diff)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v", info.Mode())
	}
	if err := kinds.Append(path, nil, newChain("chain-4")); err == nil || !strings.Contains(err.Error(), "duplicate chain") {
		t.Errorf("the same chain again: %v", err)
	}
	if again, _ := os.ReadFile(path); string(again) != string(after) {
		t.Error("a refused append changed the file")
	}
	onlyFile(t, path)
}

// onlyFile fails if anything but path is left in its folder.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A file that is accepted is the same config after it was written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add(kinds.New(newChain("a")).Render())
	cases, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range strings.Split(string(cases), "===\n") {
		file, _, _ := strings.Cut(c, "---\n")
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := kinds.Parse(config.FileName, data)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an empty error")
			}
			return
		}
		second, err := kinds.Parse(config.FileName, first.Render())
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, first.Render())
		}
		if diff := cmp.Diff(first, second, ignorePlaces, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("-read +written and read\n%s", diff)
		}
	})
}
