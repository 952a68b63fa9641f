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

// maxEnvelope bounds envelopes, in bytes; KMS's plaintexts have at most 6144.
const maxEnvelope = 16 << 10

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
// writes and no others, in whichever form of BER. It proves nothing about who made
// it: everybody who knows the public key can. The error is [errEnvelope].
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

// What an envelope is made of. Tags are those of the primitive form.
const (
	tagInteger = 0x02
	tagNull    = 0x05
	tagOID     = 0x06
	// [0] IMPLICIT OCTET STRING: subjectKeyIdentifier of a RecipientIdentifier, and
	// encryptedContent of EncryptedContentInfo.
	tagOctets0 = 0x80

	tagSequence  = 0x30
	tagSet       = 0x31
	tagExplicit0 = 0xa0
	tagExplicit1 = 0xa1
	tagExplicit2 = 0xa2

	version2         = "\x02"
	oidEnvelopedData = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"
	oidData          = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	oidOAEP          = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07"
	oidMGF1          = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"
	oidPSpecified    = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x09"
	oidSHA256        = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	oidAES256CBC     = "\x60\x86\x48\x01\x65\x03\x04\x01\x2a"
)

type envelope struct {
	recipient, encryptedKey, iv, ciphertext []byte
}

// parseEnvelope reads the elements in their order.
func parseEnvelope(b []byte) (e envelope, ok bool) {
	if len(b) > maxEnvelope {
		return e, false
	}
	outer, rest, ok := parseElement(b, 0)
	if !ok || len(rest) > 0 {
		return e, false
	}
	p := &reader{parts: []element{outer}, bad: new(bool)}
	p.enter(tagSequence, func(info *reader) {
		info.constant(tagOID, oidEnvelopedData)
		info.enter(tagExplicit0, func(p *reader) { p.enter(tagSequence, e.readData) })
	})
	if *p.bad || len(e.recipient) != sha256.Size || len(e.iv) != aes.BlockSize {
		return envelope{}, false
	}
	return e, true
}

// readData reads an EnvelopedData.
func (e *envelope) readData(data *reader) {
	data.constant(tagInteger, version2)
	data.enter(tagSet, func(recipients *reader) {
		recipients.enter(tagSequence, func(recipient *reader) {
			recipient.constant(tagInteger, version2)
			e.recipient = recipient.octets(tagOctets0)
			recipient.enter(tagSequence, readOAEP)
			e.encryptedKey = recipient.octets(tagOctets)
		})
	})
	data.enter(tagSequence, func(content *reader) {
		content.constant(tagOID, oidData)
		content.enter(tagSequence, func(algorithm *reader) {
			algorithm.constant(tagOID, oidAES256CBC)
			e.iv = algorithm.octets(tagOctets)
		})
		e.ciphertext = content.octets(tagOctets0)
	})
}

// readOAEP reads the AlgorithmIdentifier of rsaesOaep with SHA-256, MGF1 with SHA-256,
// and the empty label, which is the default and may be there (RFC 8017, A.2.1).
func readOAEP(algorithm *reader) {
	algorithm.constant(tagOID, oidOAEP)
	algorithm.enter(tagSequence, func(params *reader) {
		params.enter(tagExplicit0, readSHA256)
		params.enter(tagExplicit1, func(p *reader) {
			p.enter(tagSequence, func(mask *reader) {
				mask.constant(tagOID, oidMGF1)
				readSHA256(mask)
			})
		})
		if params.next(tagExplicit2) {
			params.enter(tagExplicit2, func(p *reader) {
				p.enter(tagSequence, func(label *reader) {
					label.constant(tagOID, oidPSpecified)
					label.require(len(label.octets(tagOctets)) == 0)
				})
			})
		}
	})
}

// readSHA256 reads the AlgorithmIdentifier of SHA-256, whose parameters are NULL or not
// there: readers have to take both (RFC 4055, 2.1).
func readSHA256(p *reader) {
	p.enter(tagSequence, func(hash *reader) {
		hash.constant(tagOID, oidSHA256)
		if hash.next(tagNull) {
			hash.constant(tagNull, "")
		}
	})
}
