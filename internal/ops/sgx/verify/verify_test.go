package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sgxtest"
)

const public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

// world is an enclave on the platform of a fake Intel, and what it says.
type world struct {
	*sgxtest.Intel
	dir     string
	enclave sgxtest.Enclave
	said    claims.Claims
	nonce   string
	td      *sgxtest.TD // in its place
	bare    bool        // a quote without a document
	forge   func(d *document.Document)
	want    home.Expected
	args    []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	intel, err := sgxtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &world{Intel: intel, dir: t.TempDir(), enclave: sgxtest.Enclave{MRENCLAVE: [32]byte{0xe1}, MRSIGNER: [32]byte{0x51}, ProductID: 7, SVN: 3},
		said: claims.Claims{Purpose: claims.PurposeAttest, Boot: strings.Repeat("0f", 16), Chain: "chain-1", KeyType: "ed25519", Key: public, Origin: claims.Generated, Seal: "mrenclave", Seq: 7, Mark: "9/0/prevote"},
		args: []string{"--mrenclave", "e1" + strings.Repeat("00", 31)}, want: home.Expected{At: time.Now()}}
}

func (w *world) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// document returns what is verified.
func (w *world) document(t *testing.T) []byte {
	t.Helper()
	var d document.Document
	if w.said.Purpose != "" {
		var err error
		if d.UserData, err = w.said.Encode(); err != nil {
			t.Fatal(err)
		}
	}
	d.Nonce = []byte(w.nonce)
	quote := func() ([]byte, error) { return w.Quote(w.enclave) }
	if !w.bare {
		w.enclave.ReportData = document.ReportData(d.UserData, d.Nonce, d.PublicKey)
	}
	if w.td != nil {
		quote = func() ([]byte, error) { return w.TDQuote(*w.td) }
	}
	raw, err := quote()
	if err != nil {
		t.Fatal(err)
	}
	if w.bare {
		return raw
	}
	d.Quote = raw
	if w.forge != nil {
		w.forge(&d)
	}
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(b) + "\n")
}

func (w *world) verify(t *testing.T) (string, error) {
	t.Helper()
	make := w.Collateral
	if w.td != nil {
		make = w.TDCollateral
	}
	text, err := make()
	if err != nil {
		t.Fatal(err)
	}
	collateral, root := w.write(t, "collateral.json", text), w.write(t, "root.pem", w.RootPEM())
	args := append([]string{"--collateral", collateral, "--test-root", root}, w.args...)
	v := Documents().Verifier()
	cmd := &cobra.Command{}
	v.Add(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	data := w.document(t)
	if !v.Recognises(data) {
		t.Fatalf("%.60q is not recognised", data)
	}
	var out bytes.Buffer
	err = v.Verify(&out, data, w.want)
	return out.String(), err
}

// What a document or a quote proves, and what not, by who made it and what it is for.
func TestReports(t *testing.T) {
	domain := func(w *world) {
		w.td, w.bare, w.args = &sgxtest.TD{MRTD: [48]byte{0x7d}, RTMR: [4][48]byte{2: {0x22}}, ReportData: [64]byte{0xda}}, true, []string{"--mrtd", "7d" + strings.Repeat("00", 47)}
	}
	for name, tt := range map[string]struct {
		change      func(w *world)
		want, never []string
	}{
		"attest": {func(w *world) {}, []string{
			"NOT INTEL: --test-root names a root of your own, ", "the quote is genuine: somebody below that root signed it, not in debug mode\n",
			"MRENCLAVE   e100", "MRSIGNER    5100", "product     7, SVN 3\n", "attributes  05000000000000000300000000000000\n", "PPID a0a1a2a3a4a5a6a7a8a9aaabacadaeaf, FMSPC 00606a000000, certified by Intel's platform CA",
			"status      UpToDate, by Intel's TCB evaluation 17, of all that was known on 2025-05-14", "purpose     attest", "chain       chain-1", "sealed to   mrenclave", "sequence    7", "  base64      " + public,
			"+ the expected enclave holds the key above in this boot", "+ it had signed up to 9/0/prevote, record 7", "- that it is fresh", "WireTap, Battering RAM, TEE.fail",
			"- on whose machine it runs", "- that the key was made inside: only its sealed form", "SGX has no counter that a host cannot set back",
		}, []string{"advisories", "report data", "which program runs", "anything about privyseal"}},
		"by its signature": {func(w *world) {
			signer, err := sgxtest.NewSigner()
			if err != nil {
				panic(err)
			}
			raw, err := signer.SigStruct(w.enclave, nil)
			if err != nil {
				panic(err)
			}
			w.args = []string{"--sigstruct", w.write(t, "a.sig", raw)}
		}, []string{"+ the expected enclave holds"}, nil},
		"by its signer": {func(w *world) {
			w.args = []string{"--mrsigner", "51" + strings.Repeat("00", 31), "--product", "7", "--min-svn", "3"}
		},
			[]string{"+ an enclave of the expected signer and product holds the key", "- which program runs: the signer can sign another one"}, nil},
		"any": {func(w *world) { w.args = []string{"--any-enclave"} }, []string{"+ some enclave made the document", "- anything about privyseal"}, []string{"holds the key", "that the key"}},
		"any that says nothing of ours": {func(w *world) {
			w.said, w.args = claims.Claims{}, []string{"--any-enclave"}
		}, []string{"user data   0 bytes that privyseal did not write"}, []string{"purpose"}},
		"with a nonce": {func(w *world) { w.nonce = "\xab\xcd"; w.args = append(w.args, "--nonce", "ABCD") }, []string{"+ the document was made after the nonce was chosen"}, []string{"fresh"}},
		"of the key":   {func(w *world) { w.want.PublicKey = public; w.args = append(w.args, "--chain-id", "chain-1") }, []string{"holds the key above"}, nil},
		"on a platform": {func(w *world) {
			w.args = append(w.args, "--ppid", hex.EncodeToString(w.PPID[:]), "--fmspc", "00606A000000", "--min-tcb-evaluation", "17")
		}, []string{"holds the key above"}, []string{"on whose machine"}},
		"created":  {func(w *world) { w.said.Purpose, w.said.Mark = claims.PurposeCreate, "0/0/none" }, []string{"+ the expected enclave sealed the key above", "+ the key was made inside that enclave", "+ it had signed nothing yet, record 7"}, []string{"only its sealed form"}},
		"imported": {func(w *world) { w.said.Purpose, w.said.Origin = claims.PurposeCreate, claims.Imported }, []string{"- that the key is nowhere else"}, []string{"was made inside that enclave"}},
		"recovered": {func(w *world) {
			w.said.Purpose, w.said.Origin, w.said.Recipient = claims.PurposeRecover, claims.RecoveredGenerated, "age1x"
		}, []string{"+ the expected enclave took the key above out of a backup", "backups for age1x", "whoever holds the private half of age1x can open its backups", "only its sealed form"}, nil},
		"state":      {func(w *world) { w.said.Purpose = claims.PurposeState }, []string{"made a new state for the key above"}, nil},
		"in etcd":    {func(w *world) { w.said.Store = "AAAAAAAAAAA" }, []string{"store       AAAAAAAAAAA"}, []string{"no counter"}},
		"to import":  {func(w *world) { w.said = claims.Claims{Purpose: claims.PurposeImport, Boot: w.said.Boot} }, []string{"holds the private half of the document's own public key"}, []string{"the key above"}},
		"a long key": {func(w *world) { w.said.KeyType, w.said.Key = "ml_dsa_65", claims.EncodeKey(make([]byte, 1952)) }, []string{"public key  sha256:"}, nil},
		"needs hardening": {func(w *world) {
			w.Levels[0].Status, w.Levels[0].Advisories = "SWHardeningNeeded", []string{"INTEL-SA-00615"}
		},
			[]string{"status      SWHardeningNeeded", "quoting enclave UpToDate", "advisories  INTEL-SA-00615\n", "certified as SWHardeningNeeded"}, nil},
		"out of date": {func(w *world) {
			w.Levels[0].Status, w.Levels[0].Advisories = "OutOfDate", []string{"INTEL-SA-00615"}
			w.args = append(w.args, "--accept-status", "OutOfDate", "--accept-advisory", "INTEL-SA-00615")
		}, []string{"status      OutOfDate", "certified as OutOfDate"}, nil},
		"a bare quote": {func(w *world) { w.bare = true; w.enclave.ReportData[0] = 0xda }, []string{"report data da00", "+ the expected enclave had the report data above quoted"}, []string{"purpose", "user data", "the key"}},
		"of that report": {func(w *world) {
			w.bare = true
			w.enclave.ReportData[0] = 0xda
			w.args = append(w.args, "--report-data", "da")
		}, []string{"report data da00"}, nil},
		"a trust domain": {domain, []string{"MRTD        7d00", "RTMR2       2200", "attributes  0000001000000000", "+ the expected trust domain had the report data above quoted"}, []string{"MRENCLAVE"}},
		"any domain":     {func(w *world) { domain(w); w.args = []string{"--any-enclave"} }, []string{"+ some trust domain had the report data"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			text, err := w.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("there is no %q:\n%s", want, text)
				}
			}
			for _, never := range tt.never {
				if strings.Contains(text, never) {
					t.Errorf("there is %q:\n%s", never, text)
				}
			}
		})
	}
}

// What is not as expected is refused, with what to do about it; nothing is printed.
func TestRefusals(t *testing.T) {
	old := func(w *world) {
		w.Levels[0].Status, w.Levels[0].Advisories = "OutOfDate", []string{"INTEL-SA-00615", "INTEL-SA-00657"}
	}
	for name, tt := range map[string]struct {
		change func(w *world)
		usage  bool
		says   string
	}{
		"no enclave":      {func(w *world) { w.args = nil }, false, "no enclave is expected, and a quote of just any enclave proves nothing; add --mrenclave"},
		"another enclave": {func(w *world) { w.enclave.MRENCLAVE[31] = 1 }, false, "the quote is not as expected:\n  MRENCLAVE: got e1"},
		"another product": {func(w *world) { w.args = []string{"--mrsigner", "51" + strings.Repeat("00", 31), "--product", "8"} }, false, "product: got 7, want 8"},
		"an older SVN": {func(w *world) {
			w.args = []string{"--mrsigner", "51" + strings.Repeat("00", 31), "--product", "7", "--min-svn", "4"}
		}, false, "SVN: got 3, want 4 or a later one"},
		"another chain":       {func(w *world) { w.args = append(w.args, "--chain-id", "chain-2") }, false, "chain id: got chain-1, want chain-2"},
		"another key":         {func(w *world) { w.want.PublicKey = strings.Repeat("A", 43) + "=" }, false, "public key: got " + public},
		"another nonce":       {func(w *world) { w.nonce = "\xab"; w.args = append(w.args, "--nonce", "cd") }, false, "nonce: got ab, want cd"},
		"no nonce":            {func(w *world) { w.args = append(w.args, "--nonce", "cd") }, false, "nonce: got nothing, want cd"},
		"another platform":    {func(w *world) { w.args = append(w.args, "--ppid", strings.Repeat("00", 16)) }, false, "PPID: got a0a1"},
		"another model":       {func(w *world) { w.args = append(w.args, "--fmspc", "000000000000") }, false, "FMSPC: got 00606a000000"},
		"an older evaluation": {func(w *world) { w.args = append(w.args, "--min-tcb-evaluation", "18") }, false, "TCB evaluation: got 17, want 18 or a later one"},
		"out of date":         {old, false, "status: got OutOfDate, want UpToDate or SWHardeningNeeded\nread each of its advisories (intel.com/sa); whoever can live with them adds `--accept-status OutOfDate --accept-advisory INTEL-SA-00615 --accept-advisory INTEL-SA-00657`"},
		"one advisory of two": {func(w *world) {
			old(w)
			w.args = append(w.args, "--accept-status", "OutOfDate", "--accept-advisory", "INTEL-SA-00615")
		}, false, "advisory of OutOfDate: got INTEL-SA-00657, want only those that are accepted\nread each"},
		"out of date and other": {func(w *world) { old(w); w.enclave.MRENCLAVE[31] = 1 }, false, "\n  status: got OutOfDate, want UpToDate or SWHardeningNeeded"},
		"debug":                 {func(w *world) { w.enclave.Debug = true }, false, "debug mode"},
		"what it says forged":   {func(w *world) { w.forge = func(d *document.Document) { d.UserData[20] ^= 1 } }, false, "report data: got"},
		"its nonce forged":      {func(w *world) { w.nonce = "a"; w.forge = func(d *document.Document) { d.Nonce[0] = 'b' } }, false, "report data: got"},
		"a key put in":          {func(w *world) { w.forge = func(d *document.Document) { d.PublicKey = []byte("k") } }, false, "report data: got"},
		"user data of others":   {func(w *world) { w.said = claims.Claims{} }, false, "it was not made by privyseal"},
		"no quote in it":        {func(w *world) { w.forge = func(d *document.Document) { d.Quote = nil } }, false, "not a quote of SGX or TDX"},
		"collateral that ended": {func(w *world) { w.want.At = time.Now().AddDate(0, 2, 0) }, false, "collateral.json --refresh` fetches collateral of today"},

		"a document with report data":    {func(w *world) { w.args = append(w.args, "--report-data", "00") }, true, "--report-data is for bare quotes"},
		"a bare quote with a chain":      {func(w *world) { w.bare = true; w.args = append(w.args, "--chain-id", "x") }, true, "this is a bare quote"},
		"a bare quote with a key":        {func(w *world) { w.bare = true; w.want.PublicKey = public }, true, "this is a bare quote"},
		"a bare quote with a nonce":      {func(w *world) { w.bare = true; w.args = append(w.args, "--nonce", "00") }, true, "this is a bare quote"},
		"other report data":              {func(w *world) { w.bare = true; w.args = append(w.args, "--report-data", "01") }, false, "report data: got 00"},
		"any and one":                    {func(w *world) { w.args = append(w.args, "--any-enclave") }, true, "--any-enclave says that no enclave is expected"},
		"a signer without product":       {func(w *world) { w.args = []string{"--mrsigner", strings.Repeat("00", 32)} }, true, "--mrsigner and --product go together"},
		"a product without signer":       {func(w *world) { w.args = append(w.args, "--product", "7") }, true, "--mrsigner and --product go together"},
		"an SVN without signer":          {func(w *world) { w.args = append(w.args, "--min-svn", "7") }, true, "--mrsigner and --product go together"},
		"a product of no number":         {func(w *world) { w.args = []string{"--mrsigner", strings.Repeat("00", 32), "--product", "x"} }, true, "is not a number up to 65535"},
		"a short MRENCLAVE":              {func(w *world) { w.args = []string{"--mrenclave", "00"} }, true, `--mrenclave "00" is not 64 hex digits`},
		"a PPID of no hex":               {func(w *world) { w.args = append(w.args, "--ppid", "x") }, true, `--ppid "x" is not 32 hex digits`},
		"an FMSPC of no hex":             {func(w *world) { w.args = append(w.args, "--fmspc", "x") }, true, `--fmspc "x" is not 12 hex digits`},
		"report data of 65 bytes":        {func(w *world) { w.args = append(w.args, "--report-data", strings.Repeat("00", 65)) }, true, "is not hex of at most 64 bytes"},
		"a nonce of no hex":              {func(w *world) { w.args = append(w.args, "--nonce", "x") }, true, `--nonce "x" is not hex`},
		"a status that does not exist":   {func(w *world) { w.args = append(w.args, "--accept-status", "Fine") }, true, "--accept-status: "},
		"a revoked status":               {func(w *world) { w.args = append(w.args, "--accept-status", "Revoked") }, true, "--accept-status: "},
		"an advisory that cannot be one": {func(w *world) { w.args = append(w.args, "--accept-advisory", "all") }, true, "--accept-advisory: "},
		"no collateral":                  {func(w *world) { w.args = append(w.args, "--collateral", "") }, true, "add --collateral FILE\n`privyseal sgx collateral platform.json --quote DOCUMENT` fetches it"},
		"collateral that is none":        {func(w *world) { w.args = append(w.args, "--collateral", "verify.go") }, false, "--collateral verify.go: not collateral for quotes"},
		"no file of collateral":          {func(w *world) { w.args = append(w.args, "--collateral", "none") }, false, "--collateral: open none"},
		"a root that is none":            {func(w *world) { w.args = append(w.args, "--test-root", "verify.go") }, false, "--test-root verify.go: "},
		"a signature that is none":       {func(w *world) { w.args = []string{"--sigstruct", "statement.go"} }, false, "statement.go"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			text, err := w.verify(t)
			if _, usage := errors.AsType[cli.UsageError](err); err == nil || !strings.Contains(err.Error(), tt.says) || usage != tt.usage || text != "" {
				t.Errorf("%v, usage %v:\n%s", err, usage, text)
			}
		})
	}
}

// A signature and an MRENCLAVE that contradict each other cannot be meant.
func TestSignatureAndMeasurement(t *testing.T) {
	signer, err := sgxtest.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	raw, err := signer.SigStruct(w.enclave, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.args = append(w.args, "--sigstruct", w.write(t, "a.sig", raw))
	if _, err := w.verify(t); err != nil {
		t.Error(err)
	}
	w.args = append(w.args, "--mrenclave", strings.Repeat("00", 32))
	if _, err := w.verify(t); err == nil || !strings.Contains(err.Error(), "--mrenclave and --sigstruct name different enclaves") {
		t.Error(err)
	}
}

// What is no quote is left to others.
func TestRecognises(t *testing.T) {
	for text, want := range map[string]bool{document.Magic: true, "\x03\x00\x02\x00\x00": true, "\x84": false, "": false, "-----BEGIN CERTIFICATE-----": false} {
		if got := (&flags{}).Recognises([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
