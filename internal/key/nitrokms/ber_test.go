package nitrokms

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/nitrokms/kmstest"
)

// Forms of a length, and lengths that are none.
func TestLengths(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 300)
	for name, c := range map[string]struct {
		head []byte
		size int // -1: refused
	}{
		"short": {[]byte{4, 3}, 3}, "the longest short one": {[]byte{4, 0x7f}, 127},
		"one byte": {[]byte{4, 0x81, 0x80}, 128}, "one byte for a short length": {[]byte{4, 0x81, 0x7f}, 127}, "one byte for none": {[]byte{4, 0x81, 0}, 0},
		"two bytes": {[]byte{4, 0x82, 1, 0}, 256}, "two bytes for one": {[]byte{4, 0x82, 0, 0x80}, 128}, "three bytes": {[]byte{4, 0x83, 0, 1, 0}, 256},
		"as many bytes as there may be": {append([]byte{4, 0xfe}, append(make([]byte, 125), 9)...), 9},
		"more than there is":            {[]byte{4, 0x82, 2, 0}, -1}, "more than a number has": {append([]byte{4, 0x88}, bytes.Repeat([]byte{0xff}, 8)...), -1},
		"one more than there is":      {[]byte{4, 0x82, 1, 45}, -1},
		"indefinite, and primitive":   {[]byte{4, 0x80}, -1},
		"reserved":                    {append([]byte{4, 0xff}, make([]byte, 127)...), -1},
		"another tag's end":           {[]byte{0, 3}, -1},
		"a tag of more than one byte": {[]byte{0x1f, 3}, -1},
	} {
		got, rest, ok := parseElement(append(bytes.Clone(c.head), content...), 0)
		if ok != (c.size >= 0) || ok && (len(got.content) != c.size || len(got.content)+len(rest) != len(content)) {
			t.Errorf("%s: %d bytes and %d, %v", name, len(got.content), len(rest), ok)
		}
	}
	for _, cut := range []string{"", "\x04", "\x04\x82", "\x04\x82\x01", "\x30\x80", "\x30\x80\x00", "\x30\x02\x04", "\x30\x02\x00\x00", "\x30\x01\x04"} {
		if _, _, ok := parseElement([]byte(cut), 0); ok {
			t.Errorf("%x is an element", cut)
		}
	}
}

// As deep as elements may be, and one deeper.
func TestDepth(t *testing.T) {
	for depth, want := range map[int]bool{maxDepth: true, maxDepth + 1: false} {
		b := bytes.Repeat([]byte{0x30, 0x80}, depth)
		b = append(append(b, 4, 0), make([]byte, 2*depth)...)
		if _, _, ok := parseElement(b, 0); ok != want {
			t.Errorf("an element in %d: %v", depth, ok)
		}
	}
}

// forms writes the elements of an envelope in the forms that chance chooses.
type forms struct{ *rand.Rand }

// length is of definite form: the shortest, or with up to 126 bytes.
func (f forms) length(n int) []byte {
	var digits []byte
	for rest := n; rest > 0; rest >>= 8 {
		digits = slices.Insert(digits, 0, byte(rest))
	}
	switch choice := f.IntN(3); {
	case choice == 0 && n < 0x80:
		return []byte{byte(n)}
	case choice == 1:
		digits = append(make([]byte, f.IntN(4)), digits...)
		if f.IntN(20) == 0 {
			digits = append(make([]byte, 126-len(digits)), digits...)
		}
	}
	if len(digits) == 0 {
		digits = []byte{0}
	}
	return append([]byte{0x80 | byte(len(digits))}, digits...)
}

func (f forms) write(tag byte, content []byte) []byte {
	if tag&constructed != 0 && f.IntN(2) == 0 {
		return slices.Concat([]byte{tag, 0x80}, content, []byte{0, 0})
	}
	return slices.Concat([]byte{tag}, f.length(len(content)), content)
}

// octets are whole, or in pieces, of which any may be empty or in pieces itself.
func (f forms) octets(tag byte, content []byte, depth int) []byte {
	if f.IntN(2) == 0 || depth == 0 {
		return f.write(tag, content)
	}
	var pieces []byte
	for len(content) > 0 || f.IntN(3) == 0 {
		n := f.IntN(len(content) + 1)
		if f.IntN(4) == 0 {
			n = len(content)
		}
		pieces = append(pieces, f.octets(tagOctets, content[:n], depth-1)...)
		content = content[n:]
	}
	return f.write(tag|constructed, pieces)
}

// again writes an element of an envelope in other forms.
func (f forms) again(e element) []byte {
	switch {
	case e.tag == tagOctets || e.tag == tagOctets0:
		return f.octets(e.tag, e.content, 4)
	case e.tag == tagExplicit0 && e.parts[0].tag == tagOctets: // the ciphertext
		r := &reader{parts: []element{e}, bad: new(bool)}
		return f.octets(tagOctets0, r.octets(tagOctets0), 6)
	case e.tag&constructed == 0:
		return f.write(e.tag, e.content)
	}
	var content []byte
	for i, part := range e.parts {
		// Parameters of SHA-256 are NULL or not there.
		if part.tag != tagNull || i != 1 || f.IntN(2) == 0 {
			content = append(content, f.again(part)...)
		}
	}
	if len(e.parts) == 2 && e.parts[0].tag == tagExplicit0 && e.parts[1].tag == tagExplicit1 && f.IntN(3) == 0 {
		label := f.write(tagSequence, append(f.write(tagOID, []byte(oidPSpecified)), f.octets(tagOctets, nil, 2)...))
		content = append(content, f.write(tagExplicit2, label)...)
	}
	return f.write(e.tag, content)
}

// Whatever form each element has, the envelope is the same.
func TestEveryForm(t *testing.T) {
	r := recipient(t)
	for _, n := range []int{0, 15, 16, 32, 700} {
		text := bytes.Repeat([]byte{byte(n)}, n)
		sealed, err := kmstest.Seal(r.PublicKey(), text)
		if err != nil {
			t.Fatal(err)
		}
		want, ok := parseEnvelope(sealed)
		tree, _, _ := parseElement(sealed, 0)
		if !ok {
			t.Fatal("the tests' KMS makes no envelopes")
		}
		for seed := range uint64(2000) {
			b := forms{rand.New(rand.NewPCG(seed, uint64(n)))}.again(tree)
			if len(b) > maxEnvelope {
				continue
			}
			got, ok := parseEnvelope(b)
			if !ok || !bytes.Equal(got.recipient, want.recipient) || !bytes.Equal(got.encryptedKey, want.encryptedKey) ||
				!bytes.Equal(got.iv, want.iv) || !bytes.Equal(got.ciphertext, want.ciphertext) {
				t.Fatalf("%d bytes, seed %d: %v\n%x", n, seed, ok, b)
			}
			if seed%100 != 0 {
				continue
			}
			if got, err := r.Open(b); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes, seed %d: %x, %v", n, seed, got, err)
			}
			for cut := range b {
				if _, ok := parseEnvelope(b[:cut]); ok {
					t.Fatalf("%d bytes, seed %d: the first %d bytes are an envelope", n, seed, cut)
				}
			}
		}
	}
}

// plain writes an element with definite lengths.
func plain(e element) []byte {
	content := e.content
	for _, part := range e.parts {
		content = append(content, plain(part)...)
	}
	return encoded(e.tag, false, content)
}

// What is no form of an element, or not what the envelope is made of, in an envelope
// that is otherwise right.
func TestOtherElements(t *testing.T) {
	r := recipient(t)
	label := func(text string) element {
		return element{tag: tagExplicit2, parts: []element{{tag: tagSequence, parts: []element{
			{tag: tagOID, content: []byte(oidPSpecified)}, {tag: tagOctets, content: []byte(text)}}}}}
	}
	null := element{tag: tagNull}
	for name, c := range map[string]struct {
		change func(data, recipient, params *element)
		want   bool
	}{
		"nothing changed":   {func(_, _, _ *element) {}, true},
		"no parameters":     {func(_, _, p *element) { p.parts[0].parts[0].parts = p.parts[0].parts[0].parts[:1] }, true},
		"the default label": {func(_, _, p *element) { p.parts = append(p.parts, label("")) }, true},
		"another label":     {func(_, _, p *element) { p.parts = append(p.parts, label("x")) }, false},
		"two labels":        {func(_, _, p *element) { p.parts = append(p.parts, label(""), label("")) }, false},
		"a label's other source": {func(_, _, p *element) {
			l := label("")
			l.parts[0].parts[0].content = []byte(oidMGF1)
			p.parts = append(p.parts, l)
		}, false},
		"a NULL with content":      {func(_, _, p *element) { p.parts[0].parts[0].parts[1].content = []byte{0} }, false},
		"two NULLs":                {func(_, _, p *element) { p.parts[0].parts[0].parts = append(p.parts[0].parts[0].parts, null) }, false},
		"MGF1 with SHA-1, default": {func(_, _, p *element) { p.parts = p.parts[:1] }, false},
		"all with SHA-1, default":  {func(_, _, p *element) { p.parts = nil }, false},
		"parameters twice":         {func(_, _, p *element) { p.parts = append(p.parts, p.parts...) }, false},
		"MGF1 first":               {func(_, _, p *element) { p.parts[0], p.parts[1] = p.parts[1], p.parts[0] }, false},
		"a version in pieces": {func(d, _, _ *element) {
			d.parts[0] = element{tag: tagInteger | constructed, parts: []element{d.parts[0]}}
		}, false},
		"a version with a zero before it": {func(d, _, _ *element) { d.parts[0].content = []byte("\x00\x02") }, false},
		"octets in pieces of another kind": {func(_, r *element, _ *element) {
			r.parts[3] = element{tag: tagOctets | constructed, parts: []element{{tag: tagOctets0, content: r.parts[3].content}}}
		}, false},
		"no recipient":        {func(d, _, _ *element) { d.parts[1].parts = nil }, false},
		"two recipients":      {func(d, r, _ *element) { d.parts[1].parts = append(d.parts[1].parts, *r) }, false},
		"a recipient by name": {func(_, r, _ *element) { r.parts[1] = element{tag: tagSequence} }, false},
		"more in a recipient": {func(_, r, _ *element) { r.parts = append(r.parts, null) }, false},
		"attributes":          {func(d, _, _ *element) { d.parts = append(d.parts, element{tag: tagExplicit1}) }, false},
		"an IV of 17 bytes": {func(d, _, _ *element) {
			iv := &d.parts[2].parts[1].parts[1]
			iv.content = append(slices.Clone(iv.content), 0)
		}, false},
		"no content": {func(d, _, _ *element) { d.parts[2].parts = d.parts[2].parts[:2] }, false},
	} {
		tree, _, _ := parseElement(envelopeOf(t, r, false), 0)
		data := &tree.parts[1].parts[0]
		recipient := &data.parts[1].parts[0]
		c.change(data, recipient, &recipient.parts[2].parts[1])
		if _, ok := parseEnvelope(plain(tree)); ok != c.want {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

// writeCertificate writes a certificate of the recipient, by which openssl takes it.
func writeCertificate(t *testing.T, r *Recipient, path string) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), SubjectKeyId: r.id(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, &r.key.PublicKey, r.key)
	if err == nil {
		err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// openssl's encoder, in each of its forms, for a certificate whose key identifier is
// what KMS writes.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		const missing = "openssl is missing; `scripts/setup debian` brings it"
		if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	r := recipient(t)
	dir := t.TempDir()
	certificate := filepath.Join(dir, "certificate.pem")
	writeCertificate(t, r, certificate)
	oaep := []string{"-recip", certificate, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}
	for name, c := range map[string]struct {
		more []string
		want bool
	}{
		"definite":                 {nil, true},
		"indefinite":               {[]string{"-stream"}, true},
		"MGF1 named":               {[]string{"-keyopt", "rsa_mgf1_md:sha256"}, true},
		"indefinite, MGF1 named":   {[]string{"-stream", "-keyopt", "rsa_mgf1_md:sha256"}, true},
		"a label":                  {[]string{"-keyopt", "rsa_oaep_label:00ff"}, false},
		"MGF1 with SHA-1":          {[]string{"-keyopt", "rsa_mgf1_md:sha1"}, false},
		"OAEP with SHA-512":        {[]string{"-keyopt", "rsa_oaep_md:sha512"}, false},
		"PKCS #1 v1.5":             {[]string{"-keyopt", "rsa_padding_mode:pkcs1"}, false},
		"AES-128":                  {[]string{"-aes-128-cbc"}, false},
		"authenticated, AES-GCM":   {[]string{"-aes-256-gcm"}, false},
		"two recipients":           {[]string{"-recip", certificate}, false},
		"no key identifier in it":  {[]string{"-issuer"}, false},
		"with a password as well":  {[]string{"-pwri_password", "x"}, false},
		"more than KMS would send": {[]string{"-large"}, false},
	} {
		text := bytes.Repeat([]byte{7}, 1000)
		args := []string{"cms", "-encrypt", "-binary", "-outform", "DER", "-in", filepath.Join(dir, "plain"), "-out", filepath.Join(dir, "sealed")}
		switch cipher := "-aes-256-cbc"; {
		case slices.Contains(c.more, "-issuer"):
			args = append(append(args, cipher), oaep...)
		case slices.Contains(c.more, "-large"):
			text = make([]byte, maxEnvelope)
			args = append(append(args, cipher, "-keyid"), oaep...)
		case len(c.more) == 1 && strings.HasPrefix(c.more[0], "-aes"):
			args = append(append(args, c.more[0], "-keyid"), oaep...)
		default:
			args = append(append(append(args, cipher, "-keyid"), oaep...), c.more...)
		}
		if err := os.WriteFile(filepath.Join(dir, "plain"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		sealed, err := os.ReadFile(filepath.Join(dir, "sealed"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Open(sealed)
		if c.want && (err != nil || !bytes.Equal(got, text)) || !c.want && !errors.Is(err, errEnvelope) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if !c.want {
			continue
		}
		tree, _, _ := parseElement(sealed, 0)
		for seed := range uint64(20) {
			if got, err := r.Open(forms{rand.New(rand.NewPCG(seed, 1))}.again(tree)); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s, written again with seed %d: %v", name, seed, err)
			}
		}
	}
}
