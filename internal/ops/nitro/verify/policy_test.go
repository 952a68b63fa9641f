package verify

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/eif"
	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/ops/nitro/nitrotest"
	"privyseal/internal/policy"
)

// attested is a world of documents below a test root.
type attested struct{ dir, root, document string }

func newAttested(t *testing.T, m eif.Measurements, p *policy.Policy) attested {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := nitrotest.NewAuthority(root, "test.nitro-enclaves"); err != nil {
		t.Fatal(err)
	}
	module, err := nitrotest.NewModule(root, m)
	if err != nil {
		t.Fatal(err)
	}
	data, err := claims.Claims{
		Purpose: claims.PurposeAttest, Boot: strings.Repeat("0", 32), Chain: "chain-1", KeyType: "ed25519",
		Key: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", KMSKey: p.KMSKey, Origin: "generated", Seq: 7, Mark: "1/0/prevote",
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := module.Attest(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "document.b64")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	return attested{dir, root + ".pem", file}
}

// write puts a file beside the document.
func (a attested) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a attested) verify(t *testing.T, args ...string) string {
	t.Helper()
	f := &Flags{}
	cmd := &cobra.Command{}
	f.Add(cmd)
	if err := cmd.ParseFlags(append([]string{"--test-root", a.root}, args...)); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(a.document)
	if err != nil || !f.Recognises(document) {
		t.Fatalf("%q is no document: %v", document, err)
	}
	var out bytes.Buffer
	if err := f.Verify(&out, document, home.Expected{At: time.Now()}); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &out)
	}
	return out.String()
}

// Whoever names the policy reads what it permits, however the policy is named.
func TestVerifySaysWhatThePolicyPermits(t *testing.T) {
	for name, tt := range map[string]struct {
		change      func(*policy.Policy)
		want, never []string
	}{
		"strict": {func(p *policy.Policy) {}, []string{
			"  = kms_key: " + nitrotest.KeyARN + ", at kms.eu-central-1.amazonaws.com:443",
			"  = chains: any that", "  = public_keys: any that",
		}, []string{"allow_", "state_floor", "max_height", "etcd"}},
		"raw signing and a floor": {func(p *policy.Policy) {
			p.AllowSignBytes, p.AllowRawBytes, p.StateFloor = true, true, map[string]int64{"chain-1": 1}
		}, []string{
			"  = allow_sign_bytes: a node may have bytes of its own choice signed", "  = allow_raw_bytes: ",
			"  = state_floor of chain-1: nothing is signed at or below 1; a lost state may be made again above it",
		}, nil},
		"etcd": {func(p *policy.Policy) {
			p.Etcd = policy.Etcd{CA: p.TLSRoots, ServerNames: []string{"etcd-1.example", "10.0.0.1"}, ClusterID: "cdf818194e3a8c32", Prefix: "/privyseal"}
		}, []string{
			"  = etcd: the marks of all chains are in the cluster cdf818194e3a8c32, below /privyseal, whose members have the name etcd-1.example or 10.0.0.1 in a certificate of the measured CA; nothing is signed with records of the host\n",
		}, nil},
		"dynamodb": {func(p *policy.Policy) {
			p.DynamoDB = policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "eu-west-1", TableEndpoint: "dynamodb.eu-west-1.amazonaws.com:443"}
		}, []string{
			"  = dynamodb: the marks of all chains are in the table marks of eu-west-1 with the TableId 0-1, at dynamodb.eu-west-1.amazonaws.com:443; nothing is signed with records of the host, and whoever has the rights of its role can write to that table\n",
		}, []string{"etcd"}},
		"bounds": {func(p *policy.Policy) { p.Chains, p.MaxHeight = []string{"chain-1", "chain-2"}, 5 }, []string{
			"  = chains: chain-1, chain-2\n", "  = max_height: nothing is signed above 5\n",
		}, []string{"allow_", "state_floor"}},
	} {
		p := nitrotest.ProductionPolicy(t)
		tt.change(p)
		im := nitrotest.Image(t, eif.AMD64, p, "\x7fELF a program")
		a := newAttested(t, im.Measure(), p)
		data, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		byParts := []string{"--pcr1", im.Measure().PCR1.String(), "--policy", a.write(t, "policy.json", data)}
		for _, args := range [][]string{byParts, {"--eif", a.write(t, "a.eif", im.Encode())}} {
			text := a.verify(t, args...)
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s, %s: there is no %q:\n%s", name, args[0], want, text)
				}
			}
			for _, never := range tt.never {
				if strings.Contains(text, never) {
					t.Errorf("%s, %s: there is %q:\n%s", name, args[0], never, text)
				}
			}
		}
		if text := a.verify(t, "--pcr0", im.Measure().PCR0.String()); strings.Contains(text, "policy permits") {
			t.Errorf("%s: PCR0 alone says what the policy permits:\n%s", name, text)
		}
	}
}

// A file at hand proves that the document is of that file. What program is in there,
// PCR1 of a release says.
func TestVerifySaysWhoseProgram(t *testing.T) {
	const compare = "compare PCR1 with the release's"
	program, err := os.ReadFile(os.Args[0]) // a Go program, and not the enclave's
	if err != nil {
		t.Fatal(err)
	}
	p := nitrotest.ProductionPolicy(t)
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"no Go program": "\x7fELF a program", "another Go program": string(program)} {
		im := nitrotest.Image(t, eif.AMD64, p, program)
		a := newAttested(t, im.Measure(), p)
		file, pcr1 := a.write(t, "a.eif", im.Encode()), im.Measure().PCR1.String()
		if got := image.OtherProgram(im); (got != "") != (name == "another Go program") || got != "" && !strings.Contains(got, compare) {
			t.Errorf("%s: measure and check say %q", name, got)
		}
		text := a.verify(t, "--eif", file)
		if !strings.Contains(text, compare) {
			t.Errorf("%s: a file says nothing of its program:\n%s", name, text)
		}
		if got := strings.Contains(text, `its program calls itself "privyseal/internal/ops/nitro/verify.test"`); got != (name == "another Go program") {
			t.Errorf("%s: %v:\n%s", name, got, text)
		}
		if text := a.verify(t, "--pcr0", im.Measure().PCR0.String()); !strings.Contains(text, compare) {
			t.Errorf("%s: PCR0 says nothing of its program:\n%s", name, text)
		}
		parts := []string{"--pcr1", pcr1, "--policy", a.write(t, "policy.json", data)}
		for _, args := range [][]string{parts, append(parts, "--eif", file)} {
			if text := a.verify(t, args...); strings.Contains(text, "compare PCR1") {
				t.Errorf("%s: PCR1 was named:\n%s", name, text)
			}
		}
	}
	im := nitrotest.Image(t, eif.AMD64, p, "\x7fELF a program")
	im.Sections[1].Data = append(im.Sections[1].Data, " x"...)
	a := newAttested(t, im.Measure(), p)
	if text := a.verify(t, "--eif", a.write(t, "a.eif", im.Encode())); !strings.Contains(text, "does not lay an image out like this one") || strings.Contains(text, "permits") {
		t.Errorf("another layout:\n%s", text)
	}
}

// Of several registers that contradict the image, the first is named, always.
func TestContradictionIsTheSameEachTime(t *testing.T) {
	p := nitrotest.ProductionPolicy(t)
	im := nitrotest.Image(t, eif.AMD64, p, "\x7fELF a program")
	path := filepath.Join(t.TempDir(), "a.eif")
	if err := os.WriteFile(path, im.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("aa", 48)
	f := Image{EIF: path, PCR0: other, pcr3: "x", pcr4: "y", pcr8: "z"}
	for range 50 {
		if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "--pcr0 and --eif name different images") {
			t.Fatalf("%v", err)
		}
	}
}

// They are refused before anything of them runs, whatever command reads them.
func TestImageThatPointsIntoItsHost(t *testing.T) {
	for endpoint, path := range nitrotest.CraftedImages(t) {
		if _, err := (&Image{EIF: path}).read(); err == nil || !strings.Contains(err.Error(), "kms_endpoint: ") {
			t.Errorf("%s: verify and key seal: %v", endpoint, err)
		}
	}
}
