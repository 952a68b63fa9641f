package eif

import (
	"crypto/x509"
	"fmt"
)

// Limits in bytes of what is not a kernel or ramdisk.
const (
	maxCmdline   = 64 << 10
	maxMetadata  = 1 << 20
	maxSignature = 64 << 10
)

// Arch is the processor that an image is for, by Go's name.
type Arch string

// The processors of Nitro Enclaves.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64" // Graviton
)

// Type is what a section holds.
type Type uint16

// The types of sections.
const (
	Kernel    Type = 1
	Cmdline   Type = 2
	Ramdisk   Type = 3
	Signature Type = 4
	Metadata  Type = 5
)

func (t Type) String() string {
	names := [...]string{"section 0", "kernel", "command line", "ramdisk", "signature", "metadata"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("section of type %d", uint16(t))
}

// Section is a part of an image.
type Section struct {
	Type Type
	Data []byte
}

// Image is an enclave image.
type Image struct {
	Arch Arch
	// Version of the format: 4, or 2 and 3 in old files.
	Version uint16
	// What an enclave gets if its launcher names nothing: bytes and number. The
	// hypervisor does not look at them, and they are not measured.
	DefaultMemory uint64
	DefaultCPUs   uint64
	// Sections in the order of the file. There are one kernel, one command line
	// after it, then one ramdisk or more; and anywhere at most one signature and
	// at most one piece of metadata.
	Sections []Section

	signer *SignedBy
}

// section returns the data of the only section of a type, nil if there is none.
func (im *Image) section(t Type) []byte {
	for _, s := range im.Sections {
		if s.Type == t {
			return s.Data
		}
	}
	return nil
}

// Kernel returns the kernel.
func (im *Image) Kernel() []byte { return im.section(Kernel) }

// Cmdline returns the kernel's command line. The launcher may append to it, and
// what it appends is not measured.
func (im *Image) Cmdline() string { return string(im.section(Cmdline)) }

// Ramdisks returns the ramdisks in order. The kernel unpacks all of them into
// one root, later files over earlier ones.
func (im *Image) Ramdisks() [][]byte {
	var list [][]byte
	for _, s := range im.Sections {
		if s.Type == Ramdisk {
			list = append(list, s.Data)
		}
	}
	return list
}

// SignedBy returns who signed the image, nil if nobody did. The signature of an
// image that Parse or Build returned is good.
func (im *Image) SignedBy() *SignedBy { return im.signer }

// SignedBy is who signed an image: whoever has the key of this certificate.
// Nobody vouches for the certificate; PCR8 names it, and the hypervisor refuses
// to start the image when it is not valid at that time.
type SignedBy struct {
	Certificate *x509.Certificate
}
