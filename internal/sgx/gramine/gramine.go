// Package gramine is what Gramine 1.9 offers to the program in an SGX enclave: quotes, and the
// CPU's seal keys, as files below /dev/attestation (Gramine's documentation, attestation.rst).
//
// The files are Gramine's own, inside the enclave: the host cannot answer in their place.
// What is trusted is Gramine, and nothing is verified here: a quote is for others to verify.
// Without Gramine, as in tests, the files say whatever whoever made them wanted.
package gramine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Dir is where the files are.
const Dir = "/dev/attestation"

// maxQuote bounds a quote in bytes, as documents do; Gramine's own are no longer than 8 KiB.
const maxQuote = 16 << 10

// Device is the enclave's attestation. The zero Device is not usable: see [Open].
type Device struct {
	dir string
	// mu is held from the report data to the quote: Gramine keeps one for all, without a lock
	// (libos/src/fs/dev/attestation.c).
	mu sync.Mutex
}

// Open returns the attestation of this enclave, and why there is none.
func Open(dir string) (*Device, error) {
	kind, err := os.ReadFile(filepath.Join(dir, "attestation_type"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("this is no SGX enclave: there is no " + filepath.Join(dir, "attestation_type") + "; run it by gramine-sgx")
	case err != nil:
		return nil, err
	}
	if k := strings.TrimSpace(string(kind)); k != "dcap" {
		return nil, fmt.Errorf("the enclave has no attestation of DCAP, but %.20q: its manifest has to say sgx.remote_attestation = \"dcap\"", k)
	}
	return &Device{dir: dir}, nil
}

// SealKey returns 16 bytes that this CPU gives to this enclave, by what it measures
// ("mrenclave") or by who signed it ("mrsigner"). They change with the CPU's microcode and
// the enclave's SVN.
func (d *Device) SealKey(seal string) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(d.dir, "keys", "_sgx_"+seal))
	if err != nil {
		return nil, fmt.Errorf("cannot read the CPU's seal key: %w", err)
	}
	return key, nil
}

// Quote returns a quote over 64 bytes of report data.
func (d *Device) Quote(reportData [64]byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// One write: Gramine pads or cuts what has another length, and says nothing.
	f, err := os.OpenFile(filepath.Join(d.dir, "user_report_data"), os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot write the report data: %w", err)
	}
	_, err = f.Write(reportData[:])
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cannot write the report data: %w", err)
	}
	quote, err := readFile(filepath.Join(d.dir, "quote"))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the platform gives no quote (%w): Gramine's own lines in the host's log say why; the AESM service has to run, with Intel's quoting enclave", err)
	case err != nil:
		return nil, fmt.Errorf("cannot read the quote: %w", err)
	case len(quote) == 0:
		return nil, errors.New("a quote of 0 bytes")
	case len(quote) > maxQuote:
		return nil, fmt.Errorf("a quote of more than %d bytes", maxQuote)
	}
	return quote, nil
}

// readFile reads a quote once: it is made when the file is opened. What is longer than a
// quote is cut after the first byte too many.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxQuote+1))
}
