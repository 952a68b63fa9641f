package sgx

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
)

// Platform is what the certificate of a platform's provisioning key (PCK) says about it.
type Platform struct {
	PPID  [16]byte // the one processor, or the set of processors of one machine
	FMSPC [6]byte  // family, model, stepping, and custom SKU
	PCEID [2]byte
	// CPUSVN are the levels of microcode and other firmware, PCESVN that of the
	// provisioning enclave, for which the certificate was made.
	CPUSVN [16]byte
	PCESVN uint16
	// CA is the name of who issued it: "processor" for one socket, "platform" for machines
	// with more, by the names that the provisioning service gives them.
	CA string
	// Instance is a machine of several processors, which changes when it is set up again;
	// nil where the CA is "processor".
	Instance []byte
}

// authorities are the issuers of platforms' certificates, by the names of the service.
var authorities = map[string]string{nameProcessor: "processor", namePlatform: "platform"}

// The last number of the OIDs below Intel's.
const (
	oidPPID     = 1
	oidTCB      = 2
	oidPCEID    = 3
	oidFMSPC    = 4
	oidType     = 5
	oidInstance = 6
	oidConfig   = 7

	tcbComponents = 16 // below oidTCB 1 to 16, and then
	tcbPCESVN     = 17
	tcbCPUSVN     = 18
)

// oidSGX is the extension of a platform's certificate.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// read decodes DER. Unlike encoding/asn1 it refuses what is not written in the one way that
// DER has.
func read[T any](der []byte) (value T, err error) {
	if rest, err := asn1.Unmarshal(der, &value); err != nil || len(rest) > 0 {
		return value, errors.New("it is not DER")
	}
	if again, err := asn1.Marshal(value); err != nil || !bytes.Equal(again, der) {
		return value, errors.New("it is not the DER that is expected")
	}
	return value, nil
}

// attributes reads a sequence of values by the last number of their OIDs below above, which
// is at most most.
func attributes(der []byte, above asn1.ObjectIdentifier, most int) (map[int][]byte, error) {
	list, err := read[[]attribute](der)
	if err != nil {
		return nil, err
	}
	of, n := map[int][]byte{}, len(above)
	for _, a := range list {
		if len(a.ID) != n+1 || !a.ID[:n].Equal(above) || a.ID[n] < 1 || a.ID[n] > most || of[a.ID[n]] != nil {
			return nil, fmt.Errorf("the value %s is unknown, or there twice", a.ID)
		}
		of[a.ID[n]] = a.Value.FullBytes
	}
	return of, nil
}

// platformOf reads the extension of a platform's certificate.
func platformOf(c *x509.Certificate) (Platform, error) {
	var value []byte
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSGX) {
			value = e.Value
		}
	}
	p := Platform{CA: authorities[c.Issuer.CommonName]}
	if err := p.read(value); err != nil {
		return p, fmt.Errorf("the certificate of the platform does not say which it is: %w", err)
	}
	return p, nil
}

func (p *Platform) read(der []byte) error {
	of, err := attributes(der, oidSGX, oidConfig)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		id   int
		into []byte
	}{{oidPPID, p.PPID[:]}, {oidPCEID, p.PCEID[:]}, {oidFMSPC, p.FMSPC[:]}} {
		if err := octets(of[f.id], f.into); err != nil {
			return err
		}
	}
	if _, err := read[asn1.Enumerated](of[oidType]); err != nil {
		return err
	}
	if of[oidInstance] != nil {
		p.Instance = make([]byte, 16)
		if err := octets(of[oidInstance], p.Instance); err != nil {
			return err
		}
	}
	return p.readTCB(of[oidTCB])
}

// readTCB reads the levels. CPUSVN has each of the 16 components once more; which of the two
// counts where they differ nobody has said, so such a platform is refused.
func (p *Platform) readTCB(der []byte) error {
	above := append(oidSGX[:len(oidSGX):len(oidSGX)], oidTCB)
	of, err := attributes(der, above, tcbCPUSVN)
	if err != nil {
		return err
	}
	if err := octets(of[tcbCPUSVN], p.CPUSVN[:]); err != nil {
		return err
	}
	for i, want := range p.CPUSVN {
		if got, err := read[int](of[i+1]); err != nil || got != int(want) {
			return fmt.Errorf("its component %d is not that of its CPUSVN %x", i+1, p.CPUSVN)
		}
	}
	svn, err := read[int](of[tcbPCESVN])
	if err != nil || svn < 0 || svn > math.MaxUint16 {
		return errors.New("its PCESVN is not a number of 16 bits")
	}
	p.PCESVN = uint16(svn)
	return nil
}

func octets(der, into []byte) error {
	b, err := read[[]byte](der)
	if err == nil && len(b) != len(into) {
		err = fmt.Errorf("a value has %d bytes, not %d", len(b), len(into))
	}
	copy(into, b)
	return err
}
