package gramine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// folder is /dev/attestation on disk, as Gramine has it with DCAP. A quote is the report data
// that was written last.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "attestation_type", "dcap")
	put(t, dir, "user_report_data", "")
	put(t, dir, "keys/_sgx_mrenclave", "of this enclave.")
	put(t, dir, "keys/_sgx_mrsigner", "of its signer...")
	if err := os.Symlink("user_report_data", filepath.Join(dir, "quote")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// instead puts another file in the place of one.
func instead(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		without(name)(t, dir)
		put(t, dir, name, text)
	}
}

func without(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// Each request is quoted with its own report data, however many ask at once.
func TestQuotes(t *testing.T) {
	d, err := Open(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			data := [64]byte(bytes.Repeat([]byte{byte(i)}, 64))
			for range 300 {
				if quote, err := d.Quote(data); err != nil || !bytes.Equal(quote, data[:]) {
					t.Errorf("%d is quoted as %x, %v", i, quote, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// Both seal keys are there, and no others.
func TestSealKeys(t *testing.T) {
	d, err := Open(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	for seal, want := range map[string]string{"mrenclave": "of this enclave.", "mrsigner": "of its signer...", "": ""} {
		if key, err := d.SealKey(seal); string(key) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", seal, key, err)
		}
	}
}

// What is wrong with the platform is said once, with what to do.
func TestMessages(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, string)
		says   string // by all three together
	}{
		"as it should be": {func(*testing.T, string) {}, ""},
		"a line feed":     {instead("attestation_type", "dcap\n"), ""},
		"no Gramine":      {without("attestation_type"), "this is no SGX enclave: there is no DIR/attestation_type; run it by gramine-sgx"},
		"a folder": {func(t *testing.T, dir string) {
			without("attestation_type")(t, dir)
			os.Mkdir(dir+"/attestation_type", 0o700)
		}, "read DIR/attestation_type: is a directory"},
		"no attestation":      {instead("attestation_type", "none"), `the enclave has no attestation of DCAP, but "none": its manifest has to say sgx.remote_attestation = "dcap"`},
		"attestation of EPID": {instead("attestation_type", "epid"), `the enclave has no attestation of DCAP, but "epid": its manifest has to say sgx.remote_attestation = "dcap"`},
		"nothing":             {instead("attestation_type", ""), `the enclave has no attestation of DCAP, but "": its manifest has to say sgx.remote_attestation = "dcap"`},
		"nonsense":            {instead("attestation_type", strings.Repeat("x", 1000)), `the enclave has no attestation of DCAP, but "xxxxxxxxxxxxxxxxxxxx": its manifest has to say sgx.remote_attestation = "dcap"`},
		"no seal key":         {without("keys/_sgx_mrenclave"), "cannot read the CPU's seal key: open DIR/keys/_sgx_mrenclave: no such file or directory"},
		"no report data":      {func(t *testing.T, dir string) { without("quote")(t, dir); without("user_report_data")(t, dir) }, "cannot write the report data: open DIR/user_report_data: no such file or directory"},
		"no quote":            {without("quote"), "cannot read the quote: open DIR/quote: no such file or directory"},
		"an empty quote":      {instead("quote", ""), "a quote of 0 bytes"},
		"the largest quote":   {instead("quote", strings.Repeat("q", maxQuote)), ""},
		"a quote without end": {instead("quote", strings.Repeat("q", maxQuote+1)), fmt.Sprintf("a quote of more than %d bytes", maxQuote)},
		"a quote of a kind of device that never ends": {func(t *testing.T, dir string) {
			without("quote")(t, dir)
			if err := os.Symlink("/dev/zero", dir+"/quote"); err != nil {
				t.Fatal(err)
			}
		}, fmt.Sprintf("a quote of more than %d bytes", maxQuote)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			c.change(t, dir)
			if said := strings.ReplaceAll(all(dir), dir, "DIR"); said != c.says {
				t.Errorf("says %q, not %q", said, c.says)
			}
		})
	}
}

// all does what an enclave does, and returns what stands in the way.
func all(dir string) string {
	d, err := Open(dir)
	if err == nil {
		_, err = d.SealKey("mrenclave")
	}
	if err == nil {
		_, err = d.Quote([64]byte{1})
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
