package collateral

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/sgx"
	"privyseal/internal/sgx/document"
	"privyseal/internal/sgx/sgxtest"
)

// service is a provisioning service with the collateral of a fake Intel.
type fake struct {
	*sgxtest.Intel
	server *httptest.Server
	dir    string
	asked  []string
	// answer changes one, by its path.
	answer func(path string, header http.Header, body []byte) (status int, changed []byte)
	inHex  bool // the root's list, as caches have it
}

func newFake(t *testing.T) *fake {
	t.Helper()
	intel, err := sgxtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Intel: intel, dir: t.TempDir()}
	f.server = httptest.NewTLSServer(f)
	t.Cleanup(f.server.Close)
	f.write(t, "root.pem", intel.RootPEM())
	f.write(t, "tls.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw}))
	return f
}

func (f *fake) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// ServeHTTP answers as the service does, version 4.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked = append(f.asked, r.URL.String())
	make := f.Collateral
	if strings.HasPrefix(r.URL.Path, "/tdx/") {
		make = f.TDCollateral
	}
	text, err := make()
	if err != nil {
		panic(err)
	}
	c, err := sgx.ParseCollateral(text)
	if err != nil {
		panic(err)
	}
	chain := func(name, text string) { w.Header().Set(name, url.PathEscape(text)) }
	var body []byte
	switch strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/sgx"), "/tdx") + "?" + r.URL.RawQuery {
	case "/v4/tcb?fmspc=" + hex.EncodeToString(f.FMSPC[:]):
		chain("TCB-Info-Issuer-Chain", c.TCBInfoChain)
		body = fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%x"}`, c.TCBInfo, c.TCBSignature)
	case "/v4/qe/identity?":
		chain("SGX-Enclave-Identity-Issuer-Chain", c.IdentityChain)
		body = fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%x"}`, c.Identity, c.IDSignature)
	case "/v4/pckcrl?ca=platform&encoding=der":
		chain("SGX-PCK-CRL-Issuer-Chain", c.PCKCRLChain)
		body = c.PCKCRL
	case "/root.der?":
		if body = c.RootCRL; f.inHex {
			body = []byte(hex.EncodeToString(body) + "\n")
		}
	default:
		http.NotFound(w, r)
		return
	}
	status := http.StatusOK
	if f.answer != nil {
		status, body = f.answer(r.URL.Path, w.Header(), body)
	}
	w.WriteHeader(status)
	w.Write(body)
}

// run runs the command on a file of the folder.
func (f *fake) run(file string, args ...string) (string, error) {
	cmd := New()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{filepath.Join(f.dir, file), "--url", f.server.URL + "/sgx/v4", "--root-crl-url", f.server.URL + "/root.der",
		"--tls-ca", filepath.Join(f.dir, "tls.pem"), "--test-root", filepath.Join(f.dir, "root.pem")}, args...))
	err := cmd.Execute()
	return strings.ReplaceAll(out.String(), f.dir+"/", ""), err
}

func (f *fake) contents(t *testing.T, file string) *sgx.Contents {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	c, err := sgx.ParseCollateral(text)
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := sgx.ParseAnchor(f.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	contents, err := c.Verify(anchor, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

// Collateral is fetched for the platform of a quote, of a document or of the operator's word,
// and again for the platform that a file is for.
func TestFetch(t *testing.T) {
	f := newFake(t)
	quote, err := f.Quote(sgxtest.Enclave{})
	if err != nil {
		t.Fatal(err)
	}
	td, err := f.TDQuote(sgxtest.TD{})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := document.Document{Quote: quote}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for file, tt := range map[string]struct {
		tee  string
		args []string
	}{
		"words":    {"SGX", []string{"--fmspc", "00606A000000", "--ca", "platform"}},
		"tdx":      {"TDX", []string{"--fmspc", "00606a000000", "--ca", "platform", "--tdx"}},
		"quote":    {"SGX", []string{"--quote", f.write(t, "quote.bin", quote)}},
		"td":       {"TDX", []string{"--quote", f.write(t, "td.bin", append(td, 0, 0))}},
		"document": {"SGX", []string{"--quote", f.write(t, "document.b64", []byte(base64.StdEncoding.EncodeToString(doc)+"\n"))}},
	} {
		out, err := f.run(file, tt.args...)
		want := file + ": collateral for " + tt.tee + " on the FMSPC 00606a000000, certified by the platform CA; Intel's TCB evaluation 17; good until " +
			f.Now.AddDate(0, 0, 30).Format(time.RFC3339) + ", when "
		if err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("%s: %q, %v", file, out, err)
		}
		if c := f.contents(t, file); c.TEE != tt.tee {
			t.Errorf("%s is for %s", file, c.TEE)
		}
	}
	before, err := os.Stat(filepath.Join(f.dir, "td"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(f.dir, "td"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Evaluation, f.inHex = 18, true
	if out, err := f.run("td", "--refresh"); err != nil || !strings.Contains(out, "td: collateral for TDX on the FMSPC 00606a000000") || !strings.Contains(out, "evaluation 18") {
		t.Errorf("%q, %v", out, err)
	}
	if after, err := os.Stat(filepath.Join(f.dir, "td")); err != nil || os.SameFile(before, after) || after.Mode().Perm() != 0o600 || f.contents(t, "td").Evaluation != 18 {
		t.Errorf("%v, %v", after, err)
	}
}

// What cannot be used is not written, and says why.
func TestFetchFails(t *testing.T) {
	words := []string{"--fmspc", "00606a000000", "--ca", "platform"}
	one := func(path string, change func(header http.Header, body []byte) (int, []byte)) func(f *fake) {
		return func(f *fake) {
			f.answer = func(p string, header http.Header, body []byte) (int, []byte) {
				if p == path {
					return change(header, body)
				}
				return http.StatusOK, body
			}
		}
	}
	body := func(text string) func(http.Header, []byte) (int, []byte) {
		return func(http.Header, []byte) (int, []byte) { return http.StatusOK, []byte(text) }
	}
	for name, tt := range map[string]struct {
		change func(f *fake)
		args   []string
		says   string
	}{
		"another model":      {nil, []string{"--fmspc", "00606a000001", "--ca", "platform"}, "/sgx/v4/tcb?fmspc=00606a000001 answers 404 Not Found"},
		"no platform":        {nil, nil, "for which platform?"},
		"no CA":              {nil, words[:2], "for which platform?"},
		"another CA":         {nil, []string{"--fmspc", "00606a000000", "--ca", "root"}, "for which platform?"},
		"a short FMSPC":      {nil, []string{"--fmspc", "00606a", "--ca", "platform"}, "for which platform?"},
		"quote and words":    {nil, append([]string{"--quote", "x"}, words...), "--quote says which platform it is"},
		"refresh and words":  {nil, append([]string{"--refresh"}, words...), "--refresh is for the platform that the file is for"},
		"refresh of nothing": {nil, []string{"--refresh"}, "no such file or directory\nleave out --refresh"},
		"no quote":           {nil, []string{"--quote", "testdata"}, "--quote: "},
		"http":               {nil, append([]string{"--url", "http://127.0.0.1/sgx/"}, words...), "is not a URL as https://api.trusted"},
		"http for the list":  {nil, append([]string{"--root-crl-url", "http://127.0.0.1/"}, words...), "--root-crl-url"},
		"no CA of the cache": {nil, append([]string{"--tls-ca", "collateral.go"}, words...), "has no certificate in PEM"},
		"no root":            {nil, append([]string{"--test-root", "collateral.go"}, words...), "a root has to be one certificate"},

		"a redirection":     {one("/sgx/v4/qe/identity", func(h http.Header, _ []byte) (int, []byte) { h.Set("Location", "/"); return http.StatusFound, nil }), words, "it redirects elsewhere"},
		"a megabyte":        {one("/root.der", body(strings.Repeat("x", 1<<20+1))), words, "/root.der answers more than 1048576 bytes"},
		"no JSON":           {one("/sgx/v4/tcb", body("x")), words, "the answer is not JSON"},
		"no signature":      {one("/sgx/v4/tcb", body(`{"tcbInfo": {}}`)), words, "the answer has no tcbInfo with a signature"},
		"no text":           {one("/sgx/v4/qe/identity", body(`{"signature": "00"}`)), words, "the answer has no enclaveIdentity with a signature"},
		"a signature twice": {one("/sgx/v4/tcb", body(`{"tcbInfo": {}, "signature": "", "signature": ""}`)), words, "duplicate key"},
		"no hex":            {one("/sgx/v4/tcb", body(`{"tcbInfo": {}, "signature": "x"}`)), words, "the signature in the answer is not hex"},
		"no chain":          {one("/sgx/v4/pckcrl", func(h http.Header, b []byte) (int, []byte) { h.Del("SGX-PCK-CRL-Issuer-Chain"); return 200, b }), words, "answers without the header SGX-PCK-CRL-Issuer-Chain"},
		"a chain with %":    {one("/sgx/v4/pckcrl", func(h http.Header, b []byte) (int, []byte) { h.Set("SGX-PCK-CRL-Issuer-Chain", "%"); return 200, b }), words, "is not escaped as in a URL"},
		"a long chain":      {one("/sgx/v4/pckcrl", func(h http.Header, b []byte) (int, []byte) { h.Set("X", strings.Repeat("x", 100<<10)); return 200, b }), words, "cannot reach the service"},
		"changed on the way": {one("/sgx/v4/tcb", func(_ http.Header, b []byte) (int, []byte) {
			return 200, bytes.Replace(b, []byte("UpToDate"), []byte("upToDate"), 1)
		}), words, "a signature is wrong: that of the TCB info"},
		"of another model": {func(f *fake) { f.OnText = func(name string, m map[string]any) { f.other(name, m) } }, words, "what was fetched is for SGX on the FMSPC ffffffffffff"},
		"expired":          {func(f *fake) { f.Now = f.Now.AddDate(0, 0, -40) }, words, "not valid at this time"},
		"of another Intel": {func(f *fake) { f.Intel = mustIntel() }, words, "is not the root"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if tt.change != nil {
				tt.change(f)
			}
			out, err := f.run("new", tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.says) || out != "" {
				t.Errorf("%q, %v", out, err)
			}
			if _, err := os.Stat(filepath.Join(f.dir, "new")); !os.IsNotExist(err) {
				t.Errorf("there is a file: %v", err)
			}
		})
	}
}

func mustIntel() *sgxtest.Intel {
	i, err := sgxtest.New(time.Now())
	if err != nil {
		panic(err)
	}
	return i
}

// other says that TCB info is of another model.
func (f *fake) other(name string, m map[string]any) {
	if name == sgxtest.TCBInfo {
		m["fmspc"] = "FFFFFFFFFFFF"
	}
}

// A file that is there stays as it is, unless it is refreshed, with what Intel knew later.
func TestFileIsThere(t *testing.T) {
	f := newFake(t)
	f.write(t, "mine", []byte("mine"))
	if _, err := f.run("mine", "--fmspc", "00606a000000", "--ca", "platform"); err == nil || !strings.Contains(err.Error(), "already exists") || len(f.asked) > 0 {
		t.Errorf("%v after %q", err, f.asked)
	}
	if _, err := f.run("mine", "--refresh"); err == nil || !strings.Contains(err.Error(), "mine: not collateral for quotes") {
		t.Error(err)
	}
	if _, err := f.run("good", "--fmspc", "00606a000000", "--ca", "platform"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(f.dir, "good"))
	if err != nil {
		t.Fatal(err)
	}
	f.Evaluation = 16
	if _, err := f.run("good", "--refresh"); err == nil || !strings.Contains(err.Error(), "is of Intel's TCB evaluation 16, and") || !strings.HasSuffix(err.Error(), "the service hands out old collateral") {
		t.Error(err)
	}
	if after, err := os.ReadFile(filepath.Join(f.dir, "good")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was changed: %v", err)
	}
	// One that has ended is refreshed all the same.
	f.Evaluation = 17
	var c map[string]string
	if err := json.Unmarshal(before, &c); err != nil {
		t.Fatal(err)
	}
	c["tcb_info"] = strings.Replace(c["tcb_info"], f.Now.AddDate(0, 0, 30).Format(time.RFC3339), "2020-01-01T00:00:00Z", 1)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "good", text)
	if out, err := f.run("good", "--refresh"); err != nil || !strings.HasPrefix(out, "good: collateral for SGX") {
		t.Errorf("%q, %v", out, err)
	}
}
