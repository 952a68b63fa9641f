package rig

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"privyseal/internal/sgx/sgxtest"
)

// Manifest is what of a signed manifest (NAME.manifest.sgx) matters here.
type Manifest struct {
	LibOS struct {
		Entrypoint string `toml:"entrypoint"`
	} `toml:"libos"`
	Loader struct {
		Argv []string       `toml:"argv"`
		Env  map[string]any `toml:"env"`
	} `toml:"loader"`
	Sys struct {
		SIGTERM        bool `toml:"enable_sigterm_injection"`
		NoSubprocesses bool `toml:"disallow_subprocesses"`
	} `toml:"sys"`
	FS struct {
		Root   Mount   `toml:"root"`
		Mounts []Mount `toml:"mounts"`
	} `toml:"fs"`
	SGX struct {
		Debug       bool      `toml:"debug"`
		EDMM        bool      `toml:"edmm_enable"`
		Size        string    `toml:"enclave_size"`
		Threads     int       `toml:"max_threads"`
		ExInfo      bool      `toml:"use_exinfo"`
		Attestation string    `toml:"remote_attestation"`
		ProductID   uint16    `toml:"isvprodid"`
		SVN         uint16    `toml:"isvsvn"`
		Trusted     []Trusted `toml:"trusted_files"`
		Allowed     []string  `toml:"allowed_files"`
	} `toml:"sgx"`
}

// Mount is a file or folder of the enclave.
type Mount struct {
	Type string `toml:"type"`
	Path string `toml:"path"`
	URI  string `toml:"uri"`
}

// Trusted is a measured file.
type Trusted struct {
	URI    string `toml:"uri"`
	SHA256 string `toml:"sha256"`
}

// ParseManifest reads a signed manifest. Keys that it does not know have no meaning here.
func ParseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	return m, toml.Unmarshal(text, m)
}

// Measure returns MRENCLAVE of an enclave with this signed manifest: a hash over the
// manifest, in which the hashes of the program and of all that is trusted stand. The real
// one is over the pages of the enclave, among which are the manifest's.
func Measure(manifest []byte) [32]byte {
	return sha256.Sum256(append([]byte("an enclave of privyseal's tests\n"), manifest...))
}

// Sign does what gramine-sgx-sign does: it reads a manifest, fills in the hashes of what is
// trusted, by URIs relative to the folder of the caller, and returns the manifest and the
// SIGSTRUCT. Same input and key, same bytes.
func Sign(template []byte, folder string, signer *sgxtest.Signer) (manifest, signature []byte, err error) {
	all := map[string]any{}
	if err := toml.Unmarshal(template, &all); err != nil {
		return nil, nil, err
	}
	sgx, _ := all["sgx"].(map[string]any)
	loader, _ := all["loader"].(map[string]any)
	if sgx == nil || loader == nil {
		return nil, nil, errors.New("the manifest has no [sgx] or no [loader]")
	}
	list, _ := sgx["trusted_files"].([]any)
	trusted := []map[string]any{}
	for _, one := range list {
		uri, ok := one.(string)
		path, isFile := strings.CutPrefix(uri, "file:")
		if !ok || !isFile {
			return nil, nil, fmt.Errorf("unsupported URI type: %v", one)
		}
		data, err := os.ReadFile(filepath.Join(folder, path))
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(data)
		trusted = append(trusted, map[string]any{"uri": uri, "sha256": hex.EncodeToString(sum[:])})
	}
	sgx["trusted_files"] = trusted
	// The LibOS: what Gramine would load is not here.
	loader["entrypoint"] = map[string]any{"uri": "file:/usr/lib/gramine/libsysdb.so", "sha256": strings.Repeat("0", 64)}
	if manifest, err = toml.Marshal(all); err != nil {
		return nil, nil, err
	}
	m, err := ParseManifest(manifest)
	if err != nil {
		return nil, nil, err
	}
	signature, err = signer.SigStruct(sgxtest.Enclave{MRENCLAVE: Measure(manifest), ProductID: m.SGX.ProductID, SVN: m.SGX.SVN, Debug: m.SGX.Debug}, func(raw []byte) {
		le.PutUint32(raw[20:], 0) // no date
		if m.SGX.ExInfo {
			raw[atMisc] |= 1
		}
	})
	return manifest, signature, err
}

// Offsets of a SIGSTRUCT (Intel SDM, volume 3D).
const (
	sigStructSize = 1808
	atModulus     = 128
	atSignature   = 516
	atMisc        = 900
	atAttributes  = 928
	atMeasured    = 960
	atProduct     = 1024
	keySize       = 384
)

// unfit is why a CPU does not start an enclave, in the words of Gramine.
type unfit string

func (u unfit) Error() string { return string(u) }

// Start does what EINIT does with a SIGSTRUCT and a manifest: it checks the signature and
// the measurement, and returns what Signed does.
func Start(signature, manifest []byte) (e sgxtest.Enclave, misc uint32, err error) {
	e, misc, err = Signed(signature)
	if err == nil && e.MRENCLAVE != Measure(manifest) {
		err = unfit("Invalid measurement")
	}
	return e, misc, err
}

// Signed returns the enclave of a SIGSTRUCT as its reports have it, with its MISCSELECT.
func Signed(signature []byte) (e sgxtest.Enclave, misc uint32, err error) {
	if len(signature) != sigStructSize {
		return e, 0, unfit("Invalid SIGSTRUCT")
	}
	number := func(at int) *big.Int {
		b := bytes.Clone(signature[at : at+keySize])
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	sum := sha256.Sum256(slices.Concat(signature[:atModulus], signature[atMisc:atProduct+4]))
	n, s := number(atModulus), number(atSignature)
	if n.BitLen() != 8*keySize || s.Cmp(n) >= 0 || rsa.VerifyPKCS1v15(&rsa.PublicKey{N: n, E: 3}, crypto.SHA256, sum[:], s.FillBytes(make([]byte, keySize))) != nil {
		return e, 0, unfit("Invalid signature")
	}
	e = sgxtest.Enclave{
		MRENCLAVE: [32]byte(signature[atMeasured:]), MRSIGNER: sha256.Sum256(signature[atModulus : atModulus+keySize]),
		ProductID: le.Uint16(signature[atProduct:]), SVN: le.Uint16(signature[atProduct+2:]),
		Attributes: [16]byte(signature[atAttributes:]),
	}
	e.Attributes[0] |= 1    // INIT
	e.Attributes[8] |= 0xe7 // XFRM is of the CPU: x87, SSE, AVX, AVX-512
	return e, le.Uint32(signature[atMisc:]), nil
}
