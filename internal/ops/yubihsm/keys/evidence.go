package keys

import (
	"context"
	"fmt"
	"slices"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/yubico"
	hsm "privyseal/yubihsm"
)

// Attests are the capabilities of an authentication key that can have a key attested: the
// second is for the certificate of the device, which is opaque object 0.
const Attests = hsm.SignAttestationCertificate | hsm.GetOpaque

// factoryKey is the key with which a device attests that Yubico has put into it, and its
// certificate.
const factoryKey = 0

// Attest returns what a device attests of a key, not verified.
func Attest(ctx context.Context, s *hsm.Session, address string, id uint16) (e yubico.Evidence, err error) {
	if e.Key, err = s.SignAttestationCertificate(ctx, id, factoryKey); err == nil {
		e.Device, err = s.Opaque(ctx, factoryKey)
	}
	if err != nil {
		err = fmt.Errorf("cannot have %s attested: %w", reach.ObjectAt("the key", id, address), err)
	}
	return e, err
}

// trusted is what an attestation has to lead to.
type trusted struct {
	anchor  yubico.Anchor
	between [][]byte // saved with it
}

// genuine refuses a device of which nothing will verify that it attests: its own certificate
// does not, or is that of another one.
func (t trusted) genuine(ctx context.Context, s *hsm.Session, address string, serial uint32) error {
	der, err := s.Opaque(ctx, factoryKey)
	if err != nil {
		return fmt.Errorf("cannot read the certificate of the YubiHSM at %s: %w", address, err)
	}
	switch certified, err := (yubico.Evidence{Device: der, Between: t.between}).VerifyDevice(t.anchor, time.Now()); {
	case err != nil:
		return fmt.Errorf("what the YubiHSM at %s attests would not verify: %w", address, err)
	case certified != serial:
		return fmt.Errorf("the YubiHSM at %s has the number %010d, and its certificate is that of %010d", address, serial, certified)
	}
	return nil
}

// prove has a device attest a key, and verifies that: it is genuine, and about this key in
// this device. It returns the evidence as it stands in a file.
func (t trusted) prove(ctx context.Context, s *hsm.Session, address string, r yubihsm.Reference) (*verify.Proof, []byte, error) {
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
	}
	e, err := Attest(ctx, s, address, r.ID)
	if err != nil {
		return nil, nil, err
	}
	e.Between = t.between
	p, err := verify.Of(e, t.anchor, time.Now())
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("what the YubiHSM at %s attests does not verify: %w", address, err)
	case p.Serial != info.Serial:
		return nil, nil, fmt.Errorf("the YubiHSM at %s has the number %010d, and what it attests is of %s", address, info.Serial, p.Device())
	case p.ID != r.ID || !p.Key.Equal(r.Public):
		return nil, nil, fmt.Errorf("the YubiHSM at %s attests another key: 0x%04x, %v, not 0x%04x, %v", address, p.ID, p.Key, r.ID, r.Public)
	}
	return p, e.PEM(), nil
}

// again says what to do to have a key attested by the command line words, which failed for
// a certificate that is not known here.
func again(unknown *yubico.IssuerError, words []string) (next string) {
	if i := slices.Index(words, "--sub-ca"); i >= 0 {
		words = slices.Delete(words, i, i+2) // it is not the one
	}
	return fmt.Sprintf("%s, and type %s", save(unknown), cure.Command(append(words, "--sub-ca", "FILE")...))
}

// save says where a certificate is that is not known here.
func save(unknown *yubico.IssuerError) string {
	return "save that certificate" + cli.Prefixed(", which is, if it is one of Yubico's, at ", unknown.URL)
}

// fileOf returns the name of a file with an attestation that nobody has named.
func fileOf(serial uint32, id uint16) string {
	return fmt.Sprintf("yubihsm-%010d-0x%04x.attestation", serial, id)
}
