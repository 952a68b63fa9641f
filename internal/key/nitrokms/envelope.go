package nitrokms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
)

// errEnvelope is the one error for an envelope that does not open, whatever is
// wrong with it: who can send envelopes learns nothing from the difference.
var errEnvelope = errors.New("cannot open the envelope in KMS's answer")

// Limits of envelopes.
const (
	maxEnvelope = 16 << 10 // bytes; KMS's plaintexts have at most 6144
	maxDepth    = 8        // of nested elements; the real ones have 6
	recipientID = sha256.Size
)

// Recipient is the RSA-2048 key to which KMS encrypts what it sends. It is made
// again at each boot and never leaves the memory of the process.
type Recipient struct {
	key  *rsa.PrivateKey
	spki []byte
}

// NewRecipient makes a key from the system's randomness.
func NewRecipient() (*Recipient, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for KMS to encrypt to: %w", err)
	}
	return newRecipient(key)
}

func newRecipient(key *rsa.PrivateKey) (*Recipient, error) {
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the key for KMS to encrypt to: %w", err)
	}
	return &Recipient{key: key, spki: spki}, nil
}

// PublicKey returns the key for the public_key of an attestation document: a
// SubjectPublicKeyInfo in DER.
func (r *Recipient) PublicKey() []byte { return bytes.Clone(r.spki) }

// Open opens a CiphertextForRecipient: CMS EnvelopedData (RFC 5652, 6.1) with one
// recipient, RSAES-OAEP with SHA-256 and AES-256-CBC, of the elements that KMS
// writes and no others, each of definite length in its shortest form or of
// indefinite length. It proves nothing about who made it: everybody who knows the
// public key can. The error is [errEnvelope].
func (r *Recipient) Open(envelope []byte) ([]byte, error) {
	e, ok := parseEnvelope(envelope)
	if !ok {
		return nil, errEnvelope
	}
	id := sha256.Sum256(r.spki)
	if !bytes.Equal(e.recipient, id[:]) {
		return nil, errEnvelope
	}
	key, err := rsa.DecryptOAEP(sha256.New(), nil, r.key, e.encryptedKey, nil)
	if err != nil || len(key) != 32 {
		return nil, errEnvelope
	}
	defer clear(key)
	return openCBC(key, e.iv, e.ciphertext)
}

// openCBC decrypts in place and takes the padding of PKCS #7 off, in a time that
// depends on lengths alone.
func openCBC(key, iv, ciphertext []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil || len(ciphertext) == 0 || len(ciphertext)%aes.BlockSize != 0 {
		return nil, errEnvelope
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(ciphertext, ciphertext)
	last := len(ciphertext) - 1
	n := int(ciphertext[last])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i := range aes.BlockSize {
		inside := subtle.ConstantTimeLessOrEq(i+1, n)
		same := subtle.ConstantTimeByteEq(ciphertext[last-i], byte(n))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	if good != 1 {
		clear(ciphertext)
		return nil, errEnvelope
	}
	return ciphertext[: len(ciphertext)-n : len(ciphertext)-n], nil
}

// Tags of the elements in an envelope.
const (
	tagOctets   = 0x04
	tagSequence = 0x30
	tagSet      = 0x31
	tagKeyID    = 0x80 // [0] of RecipientIdentifier: subjectKeyIdentifier
	tagExplicit = 0xa0 // [0] of ContentInfo
	tagContent  = 0xa0 // [0] of EncryptedContentInfo, in pieces
)

// Elements that are always the same.
const (
	integer2         = "\x02\x01\x02"
	oidEnvelopedData = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"
	oidData          = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	oidAES256CBC     = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a"
	algSHA256        = "\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00"
	// rsaesOaep with SHA-256, and MGF1 with SHA-256.
	algOAEP = "\x30\x3c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x30\x2f\xa0\x0f" + algSHA256 +
		"\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08" + algSHA256
)

type envelope struct {
	recipient, encryptedKey, iv, ciphertext []byte
}

// parseEnvelope reads the elements in their order.
func parseEnvelope(b []byte) (envelope, bool) {
	var e envelope
	if len(b) > maxEnvelope {
		return e, false
	}
	p := &parser{rest: b}
	info := p.element(tagSequence)
	p.end()
	info.constant(oidEnvelopedData)
	explicit := info.element(tagExplicit)
	info.end()
	data := explicit.element(tagSequence)
	explicit.end()

	data.constant(integer2)
	recipients := data.element(tagSet)
	recipient := recipients.element(tagSequence)
	recipients.end()
	recipient.constant(integer2)
	e.recipient = recipient.exactly(tagKeyID, recipientID)
	recipient.constant(algOAEP)
	e.encryptedKey = recipient.element(tagOctets).all()
	recipient.end()

	content := data.element(tagSequence)
	data.end()
	content.constant(oidData)
	algorithm := content.element(tagSequence)
	algorithm.constant(oidAES256CBC)
	e.iv = algorithm.exactly(tagOctets, aes.BlockSize)
	algorithm.end()
	pieces := content.element(tagContent)
	content.end()
	for !pieces.failed() && len(pieces.rest) > 0 {
		e.ciphertext = append(e.ciphertext, pieces.element(tagOctets).all()...)
	}
	for _, part := range []*parser{p, info, explicit, data, recipients, recipient, content, algorithm, pieces} {
		if part.failed() {
			return envelope{}, false
		}
	}
	return e, true
}

// parser reads the elements within one. After the first that is not as expected
// it only fails, and so do the parsers of what is in it.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) failed() bool { return p.bad }

// element enters the next element, which must have the tag.
func (p *parser) element(tag byte) *parser {
	content, rest, ok := readElement(p.rest, tag, 0)
	if p.bad || !ok {
		p.bad = true
		return &parser{bad: true}
	}
	p.rest = rest
	return &parser{rest: content}
}

// constant reads bytes that are always the same.
func (p *parser) constant(s string) {
	rest, ok := bytes.CutPrefix(p.rest, []byte(s))
	p.rest, p.bad = rest, p.bad || !ok
}

// end fails if there is more.
func (p *parser) end() { p.bad = p.bad || len(p.rest) > 0 }

func (p *parser) all() []byte { return p.rest }

// exactly reads an element whose content has n bytes.
func (p *parser) exactly(tag byte, n int) []byte {
	content := p.element(tag).all()
	p.bad = p.bad || len(content) != n
	return content
}

// readElement reads an element of BER (X.690, 8.1) with the tag: the content
// without its end mark, and what follows. A length is in its shortest form, or
// indefinite for an element that is constructed.
func readElement(b []byte, tag byte, depth int) (content, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag || tag&0x1f == 0x1f || tag == 0 || depth > maxDepth {
		return nil, nil, false
	}
	first, b := b[1], b[2:]
	n := int(first)
	switch {
	case first == 0x80:
		return readIndefinite(b, tag, depth)
	case first == 0x81 && len(b) > 0 && b[0] >= 0x80:
		n, b = int(b[0]), b[1:]
	case first == 0x82 && len(b) > 1 && b[0] > 0:
		n, b = int(b[0])<<8|int(b[1]), b[2:]
	case first > 0x80:
		return nil, nil, false
	}
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// readIndefinite finds the end mark that belongs to an element.
func readIndefinite(b []byte, tag byte, depth int) (content, rest []byte, ok bool) {
	if tag&0x20 == 0 {
		return nil, nil, false
	}
	for at := b; len(at) >= 2; {
		if at[0] == 0 && at[1] == 0 {
			n := len(b) - len(at)
			return b[:n:n], at[2:], true
		}
		if _, at, ok = readElement(at, at[0], depth+1); !ok {
			return nil, nil, false
		}
	}
	return nil, nil, false
}
