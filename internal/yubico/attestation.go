package yubico

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Attestation is what a device says about a key.
type Attestation struct {
	Serial   uint32  // the device's
	Firmware [3]byte // at that time: major, minor, patch
	ID       uint16
	Label    string
	Domains  uint16 // bit 0 is domain 1
	// Capabilities has the bits that the YubiHSM's guide numbers.
	Capabilities uint64
	// Origin is how the key came into the device: bits generated, imported, importedWrapped.
	Origin byte
	// KeyType is CometBFT's name, ed25519 or secp256k1; "" of any other key.
	KeyType string
	// Public is the public key as CometBFT has it: 32 bytes, or a compressed point.
	Public []byte
	// Until is when the first of the certificates of the key and of the device ends. The key
	// does not change then.
	Until time.Time
}

// Bits of an Origin.
const (
	generated       = 0x01
	importedWrapped = 0x10 // one of the others says how it was made
)

// exportableUnderWrap is the capability of a key that can leave the device.
const exportableUnderWrap = 1 << 16

// Generated reports whether the key was made in this device. One that was made in another
// one, and came as a backup, was not.
func (a *Attestation) Generated() bool { return a.Origin == generated }

// Restored reports whether the key came as a backup.
func (a *Attestation) Restored() bool { return a.Origin&importedWrapped != 0 }

// Exportable reports whether the key can leave the device, encrypted under a wrap key.
func (a *Attestation) Exportable() bool { return a.Capabilities&exportableUnderWrap != 0 }

// The last number of the OIDs of Yubico's extensions.
const (
	firmware     = 1
	serialNumber = 2
	origin       = 3
	domains      = 4
	capabilities = 5
	objectID     = 6
	label        = 9
)

// arc is what the OIDs of the extensions begin with.
var arc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4}

// extensionsOf returns the values of Yubico's extensions by their number.
func extensionsOf(list []pkix.Extension) (map[int][]byte, error) {
	of, seen := map[int][]byte{}, map[string]bool{}
	for _, e := range list {
		id := e.Id.String()
		if seen[id] {
			return nil, fmt.Errorf("the extension %s is there twice", id)
		}
		seen[id] = true
		if n := len(arc); len(e.Id) == n+1 && e.Id[:n].Equal(arc) {
			of[e.Id[n]] = e.Value
		}
	}
	return of, nil
}

// attestationOf reads what a certificate says about its key.
func attestationOf(c *certificate) (*Attestation, error) {
	for _, e := range c.extensions {
		if e.Critical {
			return nil, fmt.Errorf("the certificate of the key has the unknown critical extension %s", e.Id)
		}
	}
	of, err := extensionsOf(c.extensions)
	if err != nil {
		return nil, err
	}
	a := &Attestation{}
	if a.Serial, err = serialOf(of); err != nil {
		return nil, err
	}
	version, err := read[[]byte](of[firmware], "")
	if err != nil || len(version) != len(a.Firmware) {
		return nil, errors.New("the certificate of the key does not name the firmware")
	}
	copy(a.Firmware[:], version)
	how, err := bits(of[origin], 8)
	if err != nil {
		return nil, fmt.Errorf("the certificate does not say how the key came into the device: %w", err)
	}
	in, err := bits(of[domains], 16)
	if err != nil {
		return nil, fmt.Errorf("the certificate does not name the domains of the key: %w", err)
	}
	if a.Capabilities, err = bits(of[capabilities], 64); err != nil {
		return nil, fmt.Errorf("the certificate does not name the capabilities of the key: %w", err)
	}
	a.Origin, a.Domains = byte(how), uint16(in)
	id, err := read[int64](of[objectID], "")
	if err != nil || id < 0 || id > math.MaxUint16 {
		return nil, errors.New("the certificate does not name the id of the key")
	}
	a.ID = uint16(id)
	if a.Label, err = read[string](of[label], "utf8"); err != nil || len(a.Label) > 40 {
		return nil, errors.New("the certificate does not name the label of the key")
	}
	a.KeyType, a.Public, err = publicOf(c.key)
	return a, err
}

func serialOf(of map[int][]byte) (uint32, error) {
	n, err := read[int64](of[serialNumber], "")
	if err != nil || n < 0 || n > math.MaxUint32 {
		return 0, errors.New("the certificate does not name the serial number of a device")
	}
	return uint32(n), nil
}

// bits reads a BIT STRING of n bits, a number in big endian.
func bits(der []byte, n int) (uint64, error) {
	b, err := read[asn1.BitString](der, "")
	if err != nil {
		return 0, err
	}
	if b.BitLength != n {
		return 0, fmt.Errorf("it has %d bits in place of %d", b.BitLength, n)
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-n/8, 8), b.Bytes...)), nil
}

var (
	oidEd25519   = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidECKey     = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

// publicOf returns type and bytes of a public key as CometBFT has them, and "" for a key
// that no validator has.
func publicOf(k subjectKey) (string, []byte, error) {
	parameters, public := k.Algorithm.Parameters.FullBytes, k.Public.Bytes
	switch curve, err := read[asn1.ObjectIdentifier](parameters, ""); {
	case k.Algorithm.Algorithm.Equal(oidEd25519):
		if len(parameters) > 0 || k.Public.BitLength != 8*32 {
			return "", nil, errors.New("the public key in the certificate is not an Ed25519 key")
		}
		return "ed25519", bytes.Clone(public), nil
	case k.Algorithm.Algorithm.Equal(oidECKey) && err == nil && curve.Equal(oidSecp256k1):
		if k.Public.BitLength != 8*65 || public[0] != 4 {
			return "", nil, errors.New("the public key in the certificate is not a secp256k1 key")
		}
		return "secp256k1", append([]byte{2 | public[64]&1}, public[1:33]...), nil
	}
	return "", nil, nil
}
