package eif

import (
	"crypto/sha512"
	"encoding/hex"
)

// PCR is the value of a measurement register: SHA-384 of 48 zero bytes and the
// SHA-384 of what is measured.
type PCR [sha512.Size384]byte

// String returns the value in lower-case hex.
func (p PCR) String() string { return hex.EncodeToString(p[:]) }

// Measurements are the registers that an image decides.
type Measurements struct {
	PCR0 PCR // everything: kernel, command line, all ramdisks
	PCR1 PCR // kernel, command line and first ramdisk
	PCR2 PCR // the other ramdisks
	PCR8 PCR // the certificate that signed the image; zero if none did
}

// Measure returns what an enclave of this image has in its registers. Metadata
// and the defaults in the header are in none of them.
func (im *Image) Measure() Measurements {
	all, boot, app := sha512.New384(), sha512.New384(), sha512.New384()
	ramdisks := 0
	for _, s := range im.Sections {
		switch s.Type {
		case Kernel, Cmdline:
			all.Write(s.Data)
			boot.Write(s.Data)
		case Ramdisk:
			all.Write(s.Data)
			if ramdisks == 0 {
				boot.Write(s.Data)
			} else {
				app.Write(s.Data)
			}
			ramdisks++
		}
	}
	m := Measurements{PCR0: extend(all.Sum(nil)), PCR1: extend(boot.Sum(nil)), PCR2: extend(app.Sum(nil))}
	if im.signer != nil {
		sum := sha512.Sum384(im.signer.Certificate.Raw)
		m.PCR8 = extend(sum[:])
	}
	return m
}

// PCR2 returns the PCR2 of an image with these ramdisks after its first, which
// needs nothing else of the image.
func PCR2(ramdisks ...[]byte) PCR {
	h := sha512.New384()
	for _, r := range ramdisks {
		h.Write(r)
	}
	return extend(h.Sum(nil))
}

// extend returns the register that was zero and is extended by a digest once.
func extend(digest []byte) PCR {
	return sha512.Sum384(append(make([]byte, sha512.Size384), digest...))
}
