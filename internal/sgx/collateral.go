package sgx

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"privyseal/internal/strictjson"
)

// MaxCollateral bounds in bytes what is read as collateral. Real one has 20 KiB; revocation
// lists grow.
const MaxCollateral = 4 << 20

// Collateral is everything that it takes to check the quotes of one model of platforms,
// beside the root: what Intel's provisioning service (PCS v4) answers, unchanged. Its JSON
// is that of other verifiers, which read and write the same file.
type Collateral struct {
	PCKCRLChain   string `json:"pck_crl_issuer_chain"` // PEM: who issues platforms' certificates, the root
	RootCRL       Hex    `json:"root_ca_crl"`          // DER
	PCKCRL        Hex    `json:"pck_crl"`              // DER
	TCBInfoChain  string `json:"tcb_info_issuer_chain"`
	TCBInfo       string `json:"tcb_info"` // JSON, of which each byte is signed
	TCBSignature  Hex    `json:"tcb_info_signature"`
	IdentityChain string `json:"qe_identity_issuer_chain"`
	Identity      string `json:"qe_identity"`
	IDSignature   Hex    `json:"qe_identity_signature"`
}

// Hex is bytes, as lower-case hex in JSON.
type Hex []byte

// MarshalJSON implements [json.Marshaler].
func (h Hex) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }

// UnmarshalJSON implements [json.Unmarshaler].
func (h *Hex) UnmarshalJSON(text []byte) error {
	b, err := hex.DecodeString(string(text[min(1, len(text)):max(1, len(text)-1)]))
	if again, _ := Hex(b).MarshalJSON(); err != nil || string(again) != string(text) {
		return errors.New("a value is not lower-case hex")
	}
	*h = b
	return nil
}

// ParseCollateral reads a bundle. Nothing in it is verified then.
func ParseCollateral(text []byte) (*Collateral, error) {
	if len(text) > MaxCollateral {
		return nil, fmt.Errorf("collateral of %d bytes is too large", len(text))
	}
	var c Collateral
	if err := strictjson.Decode(text, &c); err != nil {
		return nil, fmt.Errorf("not collateral for quotes: %w", err)
	}
	return &c, nil
}

// Encode returns the bundle, as [ParseCollateral] reads it.
func (c *Collateral) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	return append(text, '\n'), err
}

// opened is collateral that is proved to be of the anchor, and good at some time.
type opened struct {
	root  *x509.Certificate
	crls  []crl
	tcb   *tcbInfo
	qe    *qeIdentity
	pckCA *x509.Certificate // who has issued the revocation list of platforms
	spans []Span
	at    time.Time
}

// Contents is what collateral is for.
type Contents struct {
	TEE   string // SGX, TDX
	FMSPC [6]byte
	CA    string // processor, platform
	// Evaluation is Intel's number of what it knew: the smaller one of TCB info and QE
	// identity. It grows with each of its TCB recoveries.
	Evaluation uint32
	// First is the piece that ends first. At its end there is nothing that can be checked
	// with this collateral.
	First Span
}

// Verify checks that everything in the collateral is signed below the anchor, not revoked,
// and good at the time at.
func (c *Collateral) Verify(anchor Anchor, at time.Time) (*Contents, error) {
	o, err := c.open(anchor, at)
	if err != nil {
		return nil, err
	}
	k := &Contents{TEE: o.tcb.ID, Evaluation: min(o.tcb.Evaluation, o.qe.Evaluation), First: first(o.spans), CA: authorities[o.pckCA.Subject.CommonName]}
	copy(k.FMSPC[:], o.tcb.FMSPC)
	return k, nil
}

// Claims returns what the collateral says that it is for, without a proof: to fetch the same
// again when it has ended.
func (c *Collateral) Claims() (*Contents, error) {
	t, err := parseTCBInfo([]byte(c.TCBInfo))
	if err != nil {
		return nil, err
	}
	path, err := parsePEM([]byte(c.PCKCRLChain), 2)
	if err != nil {
		return nil, err
	}
	k := &Contents{TEE: t.ID, CA: authorities[path[0].Subject.CommonName], Evaluation: t.Evaluation}
	copy(k.FMSPC[:], t.FMSPC)
	return k, nil
}

// first returns what ends first.
func first(list []Span) Span {
	return slices.MinFunc(list, func(a, b Span) int { return a.Until.Compare(b.Until) })
}

func (c *Collateral) open(anchor Anchor, at time.Time) (*opened, error) {
	root, err := anchor.certificate()
	if err != nil {
		return nil, err
	}
	o := &opened{root: root, at: at}
	if err := c.openCRLs(o); err != nil {
		return nil, err
	}
	if err := o.openTexts(c); err != nil {
		return nil, err
	}
	for _, s := range o.spans {
		if err := s.check(at); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// openCRLs proves the revocation lists.
func (c *Collateral) openCRLs(o *opened) error {
	path, err := parsePEM([]byte(c.PCKCRLChain), 2)
	if err != nil {
		return fmt.Errorf("the chain of the platforms' revocation list: %w", err)
	}
	if err := checkPath(path, o.root, true, namesPCKCA); err != nil {
		return fmt.Errorf("the chain of the platforms' revocation list: %w", err)
	}
	o.pckCA, o.spans = path[0], spans(path)
	for _, list := range []struct {
		der    []byte
		issuer *x509.Certificate
	}{{c.RootCRL, o.root}, {c.PCKCRL, o.pckCA}} {
		l, span, err := parseCRL(list.der, list.issuer)
		if err != nil {
			return err
		}
		o.crls, o.spans = append(o.crls, l), append(o.spans, span)
	}
	return checkRevocation(path, o.crls)
}

// openTexts proves TCB info and QE identity.
func (o *opened) openTexts(c *Collateral) error {
	err := o.openText("the TCB info", c.TCBInfoChain, c.TCBInfo, c.TCBSignature)
	if err == nil {
		o.tcb, err = parseTCBInfo([]byte(c.TCBInfo))
	}
	if err == nil {
		err = o.openText("the QE identity", c.IdentityChain, c.Identity, c.IDSignature)
	}
	if err == nil {
		o.qe, err = parseQEIdentity([]byte(c.Identity))
	}
	if err != nil {
		return err
	}
	o.spans = append(o.spans, Span{"the TCB info", o.tcb.Issued, o.tcb.Next}, Span{"the QE identity", o.qe.Issued, o.qe.Next})
	if want := map[string]string{"SGX": "QE", teeTDXName: "TD_QE"}[o.tcb.ID]; o.qe.ID != want {
		return fmt.Errorf("%w: its TCB info is for %s, and its QE identity for %s", errForeign, o.tcb.ID, o.qe.ID)
	}
	return nil
}

// openText proves that Intel has signed a text.
func (o *opened) openText(what, chain, text string, signature []byte) error {
	path, err := parsePEM([]byte(chain), 2)
	if err == nil {
		err = checkPath(path, o.root, false, namesTCBSigning)
	}
	if err == nil {
		err = checkRevocation(path, o.crls)
	}
	if err != nil {
		return fmt.Errorf("the chain of %s: %w", what, err)
	}
	if !checkSignature(path[0].PublicKey.(*ecdsa.PublicKey), sha256.Sum256([]byte(text)), signature) {
		return fmt.Errorf("%w: that of %s", errSignature, what)
	}
	o.spans = append(o.spans, spans(path)...)
	return nil
}
