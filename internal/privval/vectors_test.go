package privval_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/privval"
)

var update = flag.Bool("update", false, "rewrite testdata/replies.txt and testdata/stricter.txt")

var versions = []string{"v034", "v038", "v040", "v1"}

// vector is one line of testdata/v*.txt; test/vectors/README.md has the format.
type vector struct {
	name, kind string
	request    []byte
	verdict    string // "error", "panic", "-", or empty where signBytes counts
	signBytes  []byte
	extension  []byte
}

func readVectors(t testing.TB, version string) (vs []vector) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + version + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(columns) != 5 {
			t.Fatalf("%s: %d columns in %.80q", version, len(columns), line)
		}
		v := vector{name: columns[0], kind: columns[1], request: unhex(t, columns[2]), extension: unhex(t, columns[4])}
		switch columns[3] {
		case "error", "panic", "-":
			v.verdict = columns[3]
		default:
			v.signBytes = unhex(t, columns[3])
		}
		vs = append(vs, v)
	}
	return vs
}

var run = regexp.MustCompile(`\((..)\*([0-9]+)\)`)

// unhex reads hex in which (bb*N) is N times the byte bb, and - no bytes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	s = run.ReplaceAllStringFunc(s, func(r string) string {
		m := run.FindStringSubmatch(r)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
	b, err := hex.DecodeString(strings.TrimPrefix(s, "-"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors holds the codec to what CometBFT's own signers made of the same
// requests: the same bytes are signed, or the request is refused.
func TestVectors(t *testing.T) {
	stricter := map[string]string{}
	total, signed := 0, 0
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			for _, v := range readVectors(t, version) {
				total++
				req, err := privval.Decode(v.request)
				if err == nil {
					err = req.Invalid
				}
				switch {
				case err == nil:
					signed++
					checkVector(t, v, req)
				case v.verdict == "" || v.verdict == "-":
					stricter[v.name] = err.Error()
				}
			}
		})
	}
	if total < 1000 || signed < 500 {
		t.Errorf("only %d vectors, %d of them signed", total, signed)
	}
	checkStricter(t, stricter)
}

// checkVector checks an accepted request.
func checkVector(t *testing.T, v vector, req privval.Request) {
	t.Helper()
	if v.verdict == "error" || v.verdict == "panic" {
		t.Errorf("%s: accepted, but CometBFT says %s", v.name, v.verdict)
	}
	checkEncodes(t, req, v.request)
	switch req.Kind {
	case privval.KindPubKey, privval.KindPing:
		if v.verdict != "-" {
			t.Errorf("%s: taken for a %v", v.name, req.Kind)
		}
	case privval.KindSignBytes:
		if got := req.RawSignBytes(); v.kind != "signbytes" || !bytes.Equal(got, v.signBytes) {
			t.Errorf("%s: sign bytes of a %v %x, want %x", v.name, req.Kind, got, v.signBytes)
		}
	case privval.KindProposal, privval.KindPrevote, privval.KindPrecommit:
		checkSignBytes(t, v, req)
	default:
		t.Errorf("%s: taken for a %v", v.name, req.Kind)
	}
}

func checkSignBytes(t *testing.T, v vector, req privval.Request) {
	t.Helper()
	got := req.SignBytes()
	if !bytes.Equal(got, v.signBytes) {
		t.Errorf("%s: sign bytes\n%x, want\n%x", v.name, got, v.signBytes)
	}
	if len(v.extension) > 0 {
		if ext := req.ExtensionSignBytes(); !bytes.Equal(ext, v.extension) {
			t.Errorf("%s: extension sign bytes\n%x, want\n%x", v.name, ext, v.extension)
		}
	}
	back, err := privval.ParseSignBytes(got)
	if err != nil {
		t.Errorf("%s: %v", v.name, err)
	}
	// What is not signed does not come back.
	want := privval.Request{
		Kind: req.Kind, ChainID: req.ChainID, Height: req.Height, Round: req.Round,
		POLRound: req.POLRound, BlockID: req.BlockID, Timestamp: req.Timestamp,
	}
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("%s: read back from the sign bytes (-want +got):\n%s", v.name, diff)
	}
}

// checkStricter compares what we refuse and CometBFT signs with the list that
// is checked in, so that every such case is there on purpose.
func checkStricter(t *testing.T, stricter map[string]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# What privyseal refuses although CometBFT's own signer signs or answers it, and why.\n" +
		"# Made from the golden vectors by `go test ./internal/privval -run TestVectors -update`.\n")
	for _, name := range slices.Sorted(maps.Keys(stricter)) {
		fmt.Fprintf(&b, "%-40s %s\n", name, stricter[name])
	}
	golden(t, "testdata/stricter.txt", b.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update writes it again):\n%s", file, diff)
	}
}
