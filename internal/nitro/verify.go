package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	_ "embed"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// awsRoot is the root of the commercial partition and of all others that AWS
// has published so far: CN aws.nitro-enclaves, until 2049-10-28.
//
//go:embed aws-root.pem
var awsRoot []byte

// awsFingerprint is the SHA-256 of the root's DER, from AWS's page "Verifying
// the root of trust".
const awsFingerprint = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

// clockSkew is how much later than the time of the check a document may have
// been made: two clocks differ.
const clockSkew = 5 * time.Minute

// Anchor is the root certificate that a chain has to end in. The zero Anchor is
// AWS's.
type Anchor struct{ der []byte }

// ParseAnchor returns the anchor with the one certificate in the PEM text.
func ParseAnchor(text []byte) (Anchor, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return Anchor{}, errors.New("a root has to be one certificate in PEM")
	}
	if _, err := parseP384(block.Bytes); err != nil {
		return Anchor{}, fmt.Errorf("cannot use the root: %w", err)
	}
	return Anchor{der: block.Bytes}, nil
}

// bytes returns the certificate in DER. Only a build with another file than the
// one whose fingerprint is above can fail.
func (a Anchor) bytes() ([]byte, error) {
	if a.der != nil {
		return a.der, nil
	}
	block, _ := pem.Decode(awsRoot)
	if block == nil {
		return nil, errors.New("the root in this program is not PEM")
	}
	if sum := sha256.Sum256(block.Bytes); hex.EncodeToString(sum[:]) != awsFingerprint {
		return nil, errors.New("the root in this program is not the one of AWS")
	}
	return block.Bytes, nil
}

// IsAWS reports whether a is the root of AWS.
func (a Anchor) IsAWS() bool { return a.Fingerprint() == awsFingerprint }

// Fingerprint returns the SHA-256 of the certificate in lower-case hex.
func (a Anchor) Fingerprint() string {
	der, err := a.bytes()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Verify checks that the document was signed by the key of its certificate,
// that its certificates lead to the anchor, that all of them are valid at the
// time at, that it is not from later, and that the enclave was not in debug
// mode. The errors are [errSignature], [errChain], [ErrTime] and [errDebug].
//
// A document is valid for about three hours, as long as its certificate is. To
// check an older one, give the time at which it was received.
func (d *Document) Verify(anchor Anchor, at time.Time) error {
	d.verified = false
	path, err := d.path(anchor)
	if err != nil {
		return fmt.Errorf("%w: %w", errChain, err)
	}
	leaf := path[len(path)-1].PublicKey.(*ecdsa.PublicKey)
	if err := d.checkSignature(leaf); err != nil {
		return err
	}
	if err := checkPath(path); err != nil {
		return fmt.Errorf("%w: %w", errChain, err)
	}
	for _, c := range path {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return fmt.Errorf("%w: the certificate of %q is valid from %s to %s, not at %s", ErrTime, c.Subject.CommonName,
				c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
	}
	if d.Time.After(at.Add(clockSkew)) {
		return fmt.Errorf("%w: it was made at %s, after %s", ErrTime, d.Time.Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	for i := range 3 {
		if isZero(d.PCRs[i]) {
			return errDebug
		}
	}
	d.verified = true
	return nil
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// path parses the certificates, root first and leaf last, and checks what does
// not take a signature: the root is the anchor, and all keys are P-384.
func (d *Document) path(anchor Anchor) ([]*x509.Certificate, error) {
	root, err := anchor.bytes()
	if err != nil {
		return nil, err
	}
	if len(d.CABundle) == 0 || !bytes.Equal(d.CABundle[0], root) {
		return nil, fmt.Errorf("the first certificate of its bundle is not the root %s", anchor.Fingerprint())
	}
	var path []*x509.Certificate
	for _, der := range append(d.CABundle[:len(d.CABundle):len(d.CABundle)], d.Certificate) {
		c, err := parseP384(der)
		if err != nil {
			return nil, err
		}
		path = append(path, c)
	}
	return path, nil
}

// parseP384 parses a certificate with a P-384 key, the only curve in this PKI.
// Any other would have to be checked for before it meets a signature.
func parseP384(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("a certificate is malformed: %w", err)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("the key of %q is not on P-384", c.Subject.CommonName)
	}
	return c, nil
}

// Extensions that we understand, and so may be critical.
var known = []asn1.ObjectIdentifier{{2, 5, 29, 15}, {2, 5, 29, 19}}

// checkPath applies RFC 5280 and AWS's restrictions (3.2.3) to a path from root
// to leaf: each certificate is signed by the one before it, which is a CA that
// may sign certificates, at no greater distance than it may.
func checkPath(path []*x509.Certificate) error {
	leaf := len(path) - 1
	for i, c := range path {
		issuer := path[max(i-1, 0)]
		if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
			return fmt.Errorf("%q was not issued by %q", c.Subject.CommonName, issuer.Subject.CommonName)
		}
		if c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
			return fmt.Errorf("%q is signed with %s", c.Subject.CommonName, c.SignatureAlgorithm)
		}
		for _, e := range c.Extensions {
			if e.Critical && !e.Id.Equal(known[0]) && !e.Id.Equal(known[1]) {
				return fmt.Errorf("%q has the unknown critical extension %s", c.Subject.CommonName, e.Id)
			}
		}
		if err := checkRole(c, leaf-1-i, i == leaf); err != nil {
			return fmt.Errorf("%q %w", c.Subject.CommonName, err)
		}
		if i == 0 {
			continue // the anchor is trusted by its bytes
		}
		if err := c.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("the signature on %q is wrong: %w", c.Subject.CommonName, err)
		}
	}
	return nil
}

// checkRole checks basic constraints and key usage of c, which has below CAs
// between itself and the leaf.
func checkRole(c *x509.Certificate, below int, isLeaf bool) error {
	limited := c.MaxPathLen > 0 || c.MaxPathLenZero
	switch {
	case isLeaf && c.BasicConstraintsValid && (c.IsCA || limited):
		return errors.New("signs documents, but is a CA")
	case isLeaf && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("may not sign documents")
	case isLeaf:
		return nil
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("may not sign certificates")
	case limited && below > c.MaxPathLen:
		return fmt.Errorf("may have %d CAs below it, and has %d", c.MaxPathLen, below)
	}
	return nil
}

// sigStructure is what is signed (RFC 9052, 4.4).
type sigStructure struct {
	_         struct{} `cbor:",toarray"`
	Context   string
	Protected []byte
	AAD       []byte
	Payload   []byte
}

// checkSignature checks the document's signature: r and s, 48 bytes each. With
// every (r, s) an (r, -s) is good too; a document is not a unique name of itself.
func (d *Document) checkSignature(key *ecdsa.PublicKey) error {
	if len(d.signature) != signatureSize {
		return errSignature
	}
	signed, err := cbor.Marshal(sigStructure{Context: "Signature1", Protected: []byte(protectedES384), AAD: []byte{}, Payload: d.payload})
	if err != nil {
		return fmt.Errorf("cannot encode what is signed: %w", err)
	}
	sum := sha512.Sum384(signed)
	r, s := new(big.Int).SetBytes(d.signature[:48]), new(big.Int).SetBytes(d.signature[48:])
	if !ecdsa.Verify(key, sum[:], r, s) {
		return errSignature
	}
	return nil
}
