package eif

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// source is the image whose measurements were computed by another program, from
// the description of the format.
func source() Source {
	return Source{
		Arch: AMD64, Kernel: []byte("kernel"), Cmdline: "reboot=t panic=1",
		Ramdisks: [][]byte{[]byte("first ramdisk"), []byte("second ramdisk")},
		About:    Description{Name: "privyseal", Version: "v1", Tool: "privyseal", ToolVersion: "v1", OperatingSystem: "Linux", KernelVersion: "6.12"},
	}
}

const (
	goldenFile = "d79d3bb6c8eab6d28338585709d2006ee836f5de963db2720595367c73cd5f01" // SHA-256
	goldenPCR0 = "0b39ea8567e11b544bbdf3d3eb1fccea39932c96de2f28ae43e1e025a735925d0d1eb18430eb581b9b5804206c3377dc"
	goldenPCR1 = "0f3d0866675dc4ccfe798b826974ecb8c0132309b1574a6e10c8ef9e0942c3cc1e956392937bb4ce647eec252e5c9c59"
	goldenPCR2 = "ce19d22a3254eb42d44040f172c0a45fac31aa7c61e10702f95a23228e9c285951752cf9a43889687fc1e7335d3ee594"
	// emptyPCR2 is what every enclave with a single ramdisk has.
	emptyPCR2 = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
)

func build(t testing.TB, src Source) *Image {
	t.Helper()
	im, err := Build(src)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func parseGood(t testing.TB, file []byte) *Image {
	t.Helper()
	im, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestGolden(t *testing.T) {
	im := build(t, source())
	file := im.Encode()
	if sum := sha256.Sum256(file); hex.EncodeToString(sum[:]) != goldenFile {
		t.Errorf("the file is %x", sum)
	}
	m := im.Measure()
	if m.PCR0.String() != goldenPCR0 || m.PCR1.String() != goldenPCR1 || m.PCR2.String() != goldenPCR2 || m.PCR8 != (PCR{}) {
		t.Errorf("measured %v", m)
	}
	again := parseGood(t, file)
	if again.Measure() != m || !bytes.Equal(again.Encode(), file) {
		t.Error("reads differently")
	}
	if again.Cmdline() != "reboot=t panic=1" || string(again.Kernel()) != "kernel" || len(again.Ramdisks()) != 2 || again.Arch != AMD64 || again.SignedBy() != nil {
		t.Errorf("reads as %+v", again)
	}
	if PCR2([]byte("second ramdisk")).String() != goldenPCR2 {
		t.Error("PCR2 of the ramdisk alone differs")
	}
	var about struct{ BuildMetadata struct{ BuildTime string } }
	if err := json.Unmarshal(again.section(Metadata), &about); err != nil || about.BuildMetadata.BuildTime != "1970-01-01T00:00:00+00:00" {
		t.Errorf("metadata %s: %v", again.section(Metadata), err)
	}
}

func TestOneRamdisk(t *testing.T) {
	src := source()
	src.Ramdisks = src.Ramdisks[:1]
	m := build(t, src).Measure()
	if m.PCR2.String() != emptyPCR2 || PCR2().String() != emptyPCR2 {
		t.Errorf("PCR2 is %s", m.PCR2)
	}
	if m.PCR0 != m.PCR1 {
		t.Error("PCR0 differs from PCR1")
	}
}

// Each input shows in the registers that are said to measure it, and in no other.
func TestWhatIsMeasured(t *testing.T) {
	base := build(t, source()).Measure()
	for name, test := range map[string]struct {
		change func(*Source)
		pcrs   string
	}{
		"kernel":         {func(s *Source) { s.Kernel = []byte("kernel2") }, "01"},
		"command line":   {func(s *Source) { s.Cmdline += " x" }, "01"},
		"first ramdisk":  {func(s *Source) { s.Ramdisks[0] = []byte("x") }, "01"},
		"second ramdisk": {func(s *Source) { s.Ramdisks[1] = []byte("x") }, "02"},
		"third ramdisk":  {func(s *Source) { s.Ramdisks = append(s.Ramdisks, []byte("x")) }, "02"},
		"description":    {func(s *Source) { s.About.Version = "v2" }, ""},
		"processor":      {func(s *Source) { s.Arch = ARM64 }, ""},
		"signer":         {func(s *Source) { s.Sign = signer(t, elliptic.P384()) }, "8"},
	} {
		src := source()
		test.change(&src)
		m := build(t, src).Measure()
		got := ""
		for i, same := range []bool{m.PCR0 == base.PCR0, m.PCR1 == base.PCR1, m.PCR2 == base.PCR2, m.PCR8 == base.PCR8} {
			if !same {
				got += string("0128"[i])
			}
		}
		if got != test.pcrs {
			t.Errorf("%s changes PCRs %q, not %q", name, got, test.pcrs)
		}
	}
}

func TestARM64(t *testing.T) {
	src := source()
	src.Arch = ARM64
	file := build(t, src).Encode()
	if im := parseGood(t, file); im.Arch != ARM64 || file[7] != 1 {
		t.Errorf("flags %x, %s", file[6:8], im.Arch)
	}
}

func TestBuildRefuses(t *testing.T) {
	x86, arm := make([]byte, 0x300), make([]byte, 0x300)
	copy(x86[0x202:], "HdrS")
	copy(arm[0x38:], "ARM\x64")
	for name, test := range map[string]struct {
		change func(*Source)
		want   string
	}{
		"no processor":      {func(s *Source) { s.Arch = "" }, "processor"},
		"no kernel":         {func(s *Source) { s.Kernel = nil }, "no kernel"},
		"no ramdisk":        {func(s *Source) { s.Ramdisks = nil }, "no ramdisk"},
		"29 ramdisks":       {func(s *Source) { s.Ramdisks = make([][]byte, 29) }, "29 ramdisks"},
		"NUL":               {func(s *Source) { s.Cmdline += "\x00" }, "ASCII"},
		"newline":           {func(s *Source) { s.Cmdline += "\n" }, "ASCII"},
		"long command line": {func(s *Source) { s.Cmdline = strings.Repeat("x", 2048) }, "2048 bytes"},
		"kernel of Graviton": {func(s *Source) { s.Kernel = arm },
			"the kernel is for arm64, the image for amd64"},
		"kernel of x86": {func(s *Source) { s.Kernel, s.Arch = x86, ARM64 },
			"the kernel is for amd64, the image for arm64"},
	} {
		src := source()
		test.change(&src)
		if _, err := Build(src); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the hypervisor would not boot is not a kernel, even where it can be measured.
func TestCheckKernel(t *testing.T) {
	at := func(offset int, magic string) []byte {
		b := make([]byte, 0x300)
		copy(b[offset:], magic)
		return b
	}
	x86, arm := at(0x202, "HdrS"), at(0x38, "ARM\x64")
	for _, test := range []struct {
		name   string
		arch   Arch
		kernel []byte
		want   string
	}{
		{"a bzImage", AMD64, x86, ""},
		{"an Image", ARM64, arm, ""},
		{"the other's", AMD64, arm, "the kernel is for arm64, the program for amd64; take the bzImage"},
		{"the other's", ARM64, x86, "the kernel is for amd64, the program for arm64; take the Image"},
		{"text", AMD64, []byte("kernel"), "it is not a kernel"},
		{"nothing", ARM64, nil, "it is not a kernel"},
		{"the magic at the wrong place", AMD64, at(0x200, "HdrS"), "it is not a kernel"},
		{"cut off in the magic", AMD64, x86[:0x205], "it is not a kernel"},
		{"vmlinux", AMD64, at(0, "\x7fELF"), "arch/x86/boot"},
		{"vmlinux", ARM64, at(0, "\x7fELF"), "arch/arm64/boot"},
		{"Image.gz", ARM64, at(0, "\x1f\x8b\x08"), "compressed"},
		{"vmlinuz of EFI", ARM64, at(0, "MZ\x00\x00zimg"), "compressed"},
	} {
		err := CheckKernel(test.arch, test.kernel)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s for %s: %v", test.name, test.arch, err)
		}
	}
}

// The signed image of OpenSSL's key and certificate: the same bytes each time,
// and PCR8 is that of the certificate.
func TestSigned(t *testing.T) {
	src := source()
	src.Sign = signer(t, elliptic.P384())
	im := build(t, src)
	file := im.Encode()
	if !bytes.Equal(build(t, src).Encode(), file) {
		t.Error("signed twice, it is not the same image")
	}
	read := parseGood(t, file)
	by := read.SignedBy()
	if by == nil || by.Certificate.Subject.CommonName != "signer" {
		t.Fatalf("signed by %+v", by)
	}
	sum := sha512.Sum384(by.Certificate.Raw)
	want := sha512.Sum384(append(make([]byte, 48), sum[:]...))
	if m := read.Measure(); m.PCR8 != want || m.PCR0.String() != goldenPCR0 || m != im.Measure() {
		t.Errorf("measured %v", m)
	}
}

func signer(t testing.TB, curve elliptic.Curve) *Signer {
	t.Helper()
	keyPEM, certPEM := keyPair(t, curve)
	if curve == elliptic.P384() {
		s, err := NewSigner(keyPEM, certPEM)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{key: key, cert: certPEM}
}

func keyPair(t testing.TB, curve elliptic.Curve) (keyPEM, certPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
}

func TestSignerRefuses(t *testing.T) {
	key, cert := keyPair(t, elliptic.P384())
	otherKey, otherCert := keyPair(t, elliptic.P384())
	weakKey, weakCert := keyPair(t, elliptic.P256())
	for name, test := range map[string]struct {
		key, cert []byte
		want      string
	}{
		"keys swapped":        {otherKey, cert, "another key"},
		"certificate swapped": {key, otherCert, "another key"},
		"P-256":               {weakKey, weakCert, "P-384"},
		"no key":              {nil, cert, "PEM"},
		"certificate as key":  {cert, cert, "not an unencrypted private key"},
		"key as certificate":  {key, key, "not one certificate"},
		"two certificates":    {key, slices.Concat(cert, cert), "not one certificate"},
		"damaged key":         {[]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), cert, "malformed"},
	} {
		if _, err := NewSigner(test.key, test.cert); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// As `openssl ecparam -genkey` writes it.
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}})
	if _, err := NewSigner(slices.Concat(parameters, key), cert); err != nil {
		t.Error(err)
	}
}

// nitro-cli signs with whatever key it is given; all three kinds are read.
func TestForeignAlgorithms(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		s := signer(t, curve)
		im := build(t, source())
		raw := s.signAs(t, im.Measure().PCR0, algorithms[curve].header)
		im.Sections = append(im.Sections, Section{Signature, raw})
		if parseGood(t, im.Encode()).SignedBy() == nil {
			t.Errorf("%s: not signed", curve.Params().Name)
		}
	}
	im := build(t, source())
	raw := signer(t, elliptic.P256()).signAs(t, im.Measure().PCR0, algorithms[elliptic.P384()].header)
	im.Sections = append(im.Sections, Section{Signature, raw})
	if _, err := Parse(im.Encode()); !errors.Is(err, errSignature) {
		t.Errorf("a P-256 key under ES384's name: %v", err)
	}
}

// signAs signs with the hash of the key's curve under a header.
func (s *Signer) signAs(t testing.TB, pcr0 PCR, header string) []byte {
	t.Helper()
	algorithm := algorithms[s.key.Curve]
	signed, err := sigStructure(header, encodeRegister(pcr0))
	if err != nil {
		t.Fatal(err)
	}
	h := algorithm.hash.New()
	h.Write(signed)
	der, err := s.key.Sign(rand.Reader, h.Sum(nil), algorithm.hash)
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 2*algorithm.size)
	rs.R.FillBytes(signature[:algorithm.size])
	rs.S.FillBytes(signature[algorithm.size:])
	cose, err := cbor.Marshal(sign1{Protected: []byte(header), Unprotected: []byte{0xa0}, Payload: encodeRegister(pcr0), Signature: signature})
	if err != nil {
		t.Fatal(err)
	}
	return encodeSection(s.cert, cose)
}

// A signature of another image, or by another key, is refused; so is an image
// that changed after it was signed.
func TestForgedSignatures(t *testing.T) {
	src := source()
	src.Sign = signer(t, elliptic.P384())
	im := build(t, src)
	raw := im.section(Signature)
	cert, cose, err := decodeSection(raw)
	if err != nil {
		t.Fatal(err)
	}
	_, otherCert := keyPair(t, elliptic.P384())
	for name, forged := range map[string][]byte{
		"another certificate": encodeSection(otherCert, cose),
		"no certificate":      encodeSection([]byte("hello"), cose),
		"no COSE":             encodeSection(cert, []byte("hello")),
		"tagged COSE":         encodeSection(cert, append([]byte{0xd2}, cose...)),
		"COSE and more":       encodeSection(cert, append(bytes.Clone(cose), 0)),
		"bad signature":       encodeSection(cert, append(bytes.Clone(cose[:len(cose)-1]), cose[len(cose)-1]^1)),
		"two signatures":      slices.Concat([]byte{0x82}, raw[1:], raw[1:]),
		"none":                {0x80},
		"more":                append(bytes.Clone(raw), 0),
		"strings":             slices.Concat([]byte{0x81, 0xa2}, text("signing_certificate"), []byte{0x41, 1}, text("signature"), []byte{0x41, 1}),
		"unknown field":       slices.Concat([]byte{0x81, 0xa3}, raw[2:], text("x"), []byte{1}),
		"empty":               {},
	} {
		changed := *im
		changed.Sections = slices.Clone(im.Sections)
		changed.Sections[len(changed.Sections)-1].Data = forged
		if _, err := Parse(changed.Encode()); !errors.Is(err, errSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range im.Sections[:len(im.Sections)-1] {
		changed := *im
		changed.Sections = slices.Clone(im.Sections)
		changed.Sections[i].Data = append(bytes.Clone(changed.Sections[i].Data), 'x')
		_, err := Parse(changed.Encode())
		if measured := im.Sections[i].Type != Metadata; errors.Is(err, errSignature) != measured {
			t.Errorf("%s changed: %v", im.Sections[i].Type, err)
		}
	}
}

// reseal makes the checksum right again.
func reseal(file []byte) []byte {
	binary.BigEndian.PutUint32(file[crcAt:], checksum(file))
	return file
}

func TestRefused(t *testing.T) {
	good := build(t, source()).Encode()
	sections := func(types ...Type) []byte {
		im := &Image{Arch: AMD64, Version: 4}
		for _, typ := range types {
			im.Sections = append(im.Sections, Section{typ, []byte("x")})
		}
		return im.Encode()
	}
	change := func(at int, b ...byte) []byte {
		file := bytes.Clone(good)
		copy(file[at:], b)
		return reseal(file)
	}
	for name, file := range map[string][]byte{
		"magic":                   change(0, 'E'),
		"version 1":               change(5, 1),
		"version 5":               change(5, 5),
		"unknown flag":            change(7, 2),
		"reserved":                change(25, 1),
		"unused":                  change(543, 1),
		"33 sections":             change(27, 33),
		"4 sections of 5":         change(27, 4),
		"6 sections of 5":         change(27, 6),
		"offset elsewhere":        change(35, 0),
		"size too large":          change(284, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"section header larger":   change(548+11, 7),
		"section flags":           change(548+3, 1),
		"section of type 0":       change(548+1, 0),
		"section of type 6":       change(548+1, 6),
		"bytes behind":            reseal(append(bytes.Clone(good), 0)),
		"no kernel":               sections(Cmdline, Ramdisk),
		"no command line":         sections(Kernel, Ramdisk),
		"no ramdisk":              sections(Kernel, Cmdline),
		"nothing":                 sections(),
		"two kernels":             sections(Kernel, Cmdline, Kernel, Ramdisk),
		"two command lines":       sections(Kernel, Cmdline, Ramdisk, Cmdline),
		"command line first":      sections(Cmdline, Kernel, Ramdisk),
		"ramdisk before kernel":   sections(Ramdisk, Kernel, Cmdline, Ramdisk),
		"two pieces of metadata":  sections(Kernel, Cmdline, Metadata, Metadata, Ramdisk),
		"two signatures":          sections(Kernel, Cmdline, Ramdisk, Signature, Signature),
		"metadata of a megabyte":  (&Image{Arch: AMD64, Version: 4, Sections: []Section{{Kernel, []byte{1}}, {Cmdline, nil}, {Ramdisk, nil}, {Metadata, make([]byte, maxMetadata+1)}}}).Encode(),
		"command line of 64 KiB+": (&Image{Arch: AMD64, Version: 4, Sections: []Section{{Kernel, []byte{1}}, {Cmdline, make([]byte, maxCmdline+1)}, {Ramdisk, nil}}}).Encode(),
	} {
		if im, err := Parse(file); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v, %v", name, im, err)
		}
	}
	for n := range good {
		if _, err := Parse(good[:n]); !errors.Is(err, errMalformed) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	for i := range good {
		file := bytes.Clone(good)
		file[i] ^= 1 << (i % 8)
		if _, err := Parse(file); err == nil {
			t.Errorf("good with a bit of byte %d flipped", i)
		}
	}
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	if _, err := Parse(damaged); !errors.Is(err, errChecksum) {
		t.Errorf("damaged: %v", err)
	}
}

// Old images, and the other orders in which tools write.
func TestOldImages(t *testing.T) {
	im := &Image{Arch: AMD64, Version: 2, DefaultMemory: 5, DefaultCPUs: 6, Sections: []Section{
		{Metadata, []byte("{}")}, {Kernel, []byte("k")}, {Cmdline, nil}, {Ramdisk, []byte("r")}}}
	read := parseGood(t, im.Encode())
	if read.Version != 2 || read.DefaultMemory != 5 || read.DefaultCPUs != 6 || string(read.section(Metadata)) != "{}" {
		t.Errorf("read %+v", read)
	}
	if read.Measure() != im.Measure() {
		t.Error("measured differently")
	}
}

// FuzzParse holds the law: what is accepted encodes to the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(build(f, source()).Encode())
	src := source()
	src.Sign = signer(f, elliptic.P384())
	f.Add(build(f, src).Encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) >= headerSize {
			file = reseal(bytes.Clone(file)) // else the fuzzer never gets past the checksum
		}
		im, err := Parse(file)
		if err != nil {
			return
		}
		if again := im.Encode(); !bytes.Equal(again, file) {
			t.Errorf("accepted %x, which encodes to %x", file, again)
		}
		if m := im.Measure(); m.PCR0 == (PCR{}) || (m.PCR8 != PCR{}) != (im.SignedBy() != nil) {
			t.Errorf("measured %v", m)
		}
	})
}
