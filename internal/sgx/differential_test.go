package sgx

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// judged is a quote for both verifiers.
type judged struct {
	name, class string
	quote       []byte
	collateral  *Collateral
	root        []byte // PEM; nil is Intel's
	at          time.Time
}

// verdict is what dcap-qvl says.
type verdict struct {
	Status     string   `json:"status"`
	Advisories []string `json:"advisories"`
	Refused    string   `json:"refused"`
}

// qvl has dcap-qvl judge quotes. Without it the test is skipped, or fails where
// PRIVYSEAL_REQUIRE_DCAP_QVL is 1.
func qvl(t *testing.T, list []judged) (verdicts []verdict) {
	t.Helper()
	bin, err := exec.Command("../../scripts/setup", "bin").Output()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(strings.TrimSpace(string(bin)), "dcap-qvl-0.7.0")
	if _, err := os.Stat(folder); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_DCAP_QVL") == "1" {
			t.Fatalf("%v; `scripts/setup dcap-qvl` brings it", err)
		}
		t.Skipf("%v; `scripts/setup dcap-qvl` brings it", err)
	}
	var in bytes.Buffer
	for _, j := range list {
		collateral, err := j.collateral.Encode()
		if err != nil {
			t.Fatal(err)
		}
		root := []byte{}
		if block, _ := pem.Decode(j.root); block != nil {
			root = block.Bytes
		}
		line, err := json.Marshal(map[string]any{"quote": hex.EncodeToString(j.quote), "root": hex.EncodeToString(root), "collateral": string(collateral), "at": j.at.Unix()})
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.Command("python3", "-W", "ignore", "testdata/qvl.py")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+folder, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdin = &in
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("%v: %s", err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var v verdict
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) != len(list) {
		t.Fatalf("%d verdicts on %d quotes", len(verdicts), len(list))
	}
	return verdicts
}

// compare has both judge the list. Nothing may be good for us alone but the classes in
// looser; what is good for dcap-qvl alone is counted by class. Where it is good for both, they
// have to say the same.
func compare(t *testing.T, list []judged, looser map[string]string) (stricter map[string]int) {
	t.Helper()
	stricter = map[string]int{}
	both, neither := 0, 0
	for i, theirs := range qvl(t, list) {
		j := list[i]
		ours, err := judge(j.quote, j.collateral, j.root, j.at)
		switch {
		case err == nil && theirs.Refused != "":
			if looser[j.class] == "" {
				t.Errorf("%s: good for us, and dcap-qvl says %s", j.name, theirs.Refused)
			}
		case err != nil && theirs.Refused == "":
			stricter[j.class]++
			t.Logf("%s: good for dcap-qvl, and we say: %v", j.name, err)
		case err != nil:
			neither++
		default:
			both++
			if string(ours.Status) != theirs.Status || !slices.Equal(slices.Compact(slices.Sorted(slices.Values(ours.Advisories))), theirs.Advisories) {
				t.Errorf("%s: %s %v for us, %s %v for dcap-qvl", j.name, ours.Status, ours.Advisories, theirs.Status, theirs.Advisories)
			}
		}
	}
	t.Logf("%d quotes: good for both %d, for neither %d, for dcap-qvl alone %v", len(list), both, neither, stricter)
	return stricter
}

// mutation changes a quote or its collateral in place of those of j. It says where.
type mutation struct {
	class  string
	change func(r *rand.Rand, j *judged) string
}

// mutations are what a thousand quotes suffer.
func mutations() (list []mutation) {
	inQuote := func(class string, change func(r *rand.Rand, raw []byte) ([]byte, string)) {
		list = append(list, mutation{class, func(r *rand.Rand, j *judged) (where string) {
			j.quote, where = change(r, bytes.Clone(j.quote))
			return where
		}})
	}
	inQuote("a bit", func(r *rand.Rand, raw []byte) ([]byte, string) {
		i := r.IntN(len(bytes.TrimRight(raw, "\x00")))
		raw[i] ^= 1 << r.IntN(8)
		return raw, fmt.Sprint("of byte ", i)
	})
	inQuote("a byte", func(r *rand.Rand, raw []byte) ([]byte, string) {
		i := r.IntN(len(raw))
		raw[i] += byte(1 + r.IntN(255))
		return raw, fmt.Sprint(i)
	})
	inQuote("a byte before the certificates", func(r *rand.Rand, raw []byte) ([]byte, string) {
		i := r.IntN(bytes.Index(raw, []byte("-----BEGIN")))
		raw[i] = byte(r.IntN(256))
		return raw, fmt.Sprint(i)
	})
	inQuote("cut off", func(r *rand.Rand, raw []byte) ([]byte, string) {
		n := r.IntN(len(raw))
		return raw[:n], fmt.Sprint("after ", n)
	})
	inQuote("longer", func(r *rand.Rand, raw []byte) ([]byte, string) {
		n := 1 + r.IntN(64)
		return append(raw, bytes.Repeat([]byte{byte(r.IntN(2))}, n)...), fmt.Sprint("by ", n)
	})
	inQuote("a byte less", func(r *rand.Rand, raw []byte) ([]byte, string) {
		i := r.IntN(len(raw))
		return slices.Delete(raw, i, i+1), fmt.Sprint(i)
	})
	inQuote("a byte more", func(r *rand.Rand, raw []byte) ([]byte, string) {
		i := r.IntN(len(raw))
		return slices.Insert(raw, i, byte(r.IntN(256))), fmt.Sprint(i)
	})
	inQuote("blocks exchanged", func(r *rand.Rand, raw []byte) ([]byte, string) {
		n := 1 + r.IntN(64)
		i, k := r.IntN(len(raw)-n), r.IntN(len(raw)-n)
		a, b := bytes.Clone(raw[i:i+n]), bytes.Clone(raw[k:k+n])
		copy(raw[i:], b)
		copy(raw[k:], a)
		return raw, fmt.Sprint(n, " bytes of ", i, " and ", k)
	})
	inQuote("line ends", func(r *rand.Rand, raw []byte) ([]byte, string) {
		text := bytes.Index(raw, []byte("-----BEGIN"))
		ends := bytes.Count(raw[text:], []byte("\n"))
		at := text
		for range 1 + r.IntN(ends) {
			at += bytes.IndexByte(raw[at:], '\n') + 1
		}
		raw[at-1] = " \r\t"[r.IntN(3)]
		return raw, fmt.Sprint(at - 1)
	})
	pieces := func(c *Collateral) []*Hex {
		return []*Hex{&c.RootCRL, &c.PCKCRL, &c.TCBSignature, &c.IDSignature}
	}
	texts := func(c *Collateral) []*string {
		return []*string{&c.PCKCRLChain, &c.TCBInfoChain, &c.TCBInfo, &c.IdentityChain, &c.Identity}
	}
	list = append(list, mutation{"a bit of collateral", func(r *rand.Rand, j *judged) string {
		c := *j.collateral
		which := r.IntN(4)
		p := pieces(&c)[which]
		*p = bytes.Clone(*p)
		i := r.IntN(len(*p))
		(*p)[i] ^= 1 << r.IntN(8)
		j.collateral = &c
		return fmt.Sprint(which, " byte ", i)
	}}, mutation{"a letter of collateral", func(r *rand.Rand, j *judged) string {
		c := *j.collateral
		which := r.IntN(5)
		p := texts(&c)[which]
		i := r.IntN(len(*p))
		*p = (*p)[:i] + string(rune(' '+r.IntN(95))) + (*p)[i+1:]
		j.collateral = &c
		return fmt.Sprint(which, " letter ", i)
	}}, mutation{"collateral exchanged", func(r *rand.Rand, j *judged) string {
		c := *j.collateral
		i, k := r.IntN(4), r.IntN(4)
		a, b := pieces(&c)[i], pieces(&c)[k]
		*a, *b = *b, *a
		m, n := r.IntN(5), r.IntN(5)
		x, y := texts(&c)[m], texts(&c)[n]
		*x, *y = *y, *x
		j.collateral = &c
		return fmt.Sprint(i, k, m, n)
	}}, mutation{"the time", func(r *rand.Rand, j *judged) string {
		j.at = j.at.Add(time.Duration(r.IntN(100*24)-50*24) * time.Hour)
		return j.at.Format(time.RFC3339)
	}}, mutation{"collateral of the other", func(r *rand.Rand, j *judged) string { return "" }})
	return list
}

// A thousand quotes of real platforms, changed, and their collateral, are judged by dcap-qvl
// as well. Where it is less strict is known: it reads no lengths that nothing depends on,
// looks at no certificate in PEM that it does not need, and takes PEM as it comes.
func TestMutatedQuotesAreJudgedAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sgx, tdx := vectors["SGX, Processor CA"], vectors["TDX, with lists"]
	var list []judged
	kinds := mutations()
	for i := range 1000 {
		v, other := sgx, tdx
		if r.IntN(2) == 0 {
			v, other = tdx, sgx
		}
		m := kinds[i%len(kinds)]
		j := judged{class: m.class, quote: vector(t, v.quote), collateral: bundle(t, v.bundle), at: instant(t, v.at)}
		where := m.change(r, &j)
		if m.class == "collateral of the other" {
			j.collateral = bundle(t, other.bundle)
		}
		j.name = fmt.Sprintf("%s: %s %s", v.quote, m.class, where)
		list = append(list, j)
	}
	for _, v := range vectors {
		if v.bundle != "" {
			list = append(list, judged{v.quote, "unchanged", vector(t, v.quote), bundle(t, v.bundle), nil, instant(t, v.at)})
		}
	}
	stricter := compare(t, list, nil)
	known := []string{"a bit", "a byte", "a byte before the certificates", "longer", "a byte less", "a byte more", "blocks exchanged", "line ends", "a letter of collateral", "collateral exchanged"}
	for class := range stricter {
		if !slices.Contains(known, class) {
			t.Errorf("dcap-qvl alone accepts %d of %q", stricter[class], class)
		}
	}
}

// The fake Intel and all its faults are judged by both.
func TestFaultsAreJudgedAlike(t *testing.T) {
	var list []judged
	of := faults()
	for _, name := range slices.Sorted(maps.Keys(of)) {
		w := newWorld(t)
		of[name].change(w)
		raw, c := w.evidence(t)
		list = append(list, judged{name, name, raw, c, w.RootPEM(), w.at})
	}
	stricter := compare(t, list, map[string]string{
		"the module counts by its own": "Intel's QVL leaves the first two SVNs to the TDX module's own levels; dcap-qvl compares them again",
	})
	var want []string
	for _, row := range table(t, "stricter.txt") {
		want = append(want, strings.Join(row, " "))
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(stricter)); !slices.Equal(got, want) {
		t.Errorf("we alone refuse:\n%s\ntestdata/stricter.txt has:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
