// Package eif writes, reads and measures enclave images, files in the Enclave
// Image Format of AWS Nitro Enclaves: a kernel, its command line, ramdisks, and
// by choice a signature.
//
// It is pure: bytes in, bytes out, no clock, and the same input gives the same
// bytes everywhere, signatures included. It starts nothing. It trusts nothing in
// an image that it reads: [Parse] takes only what it would itself write in the
// same way, so that no two readers can see different images in one file.
//
// Format: aws-nitro-enclaves-image-format, src/defs/mod.rs and
// src/utils/eif_reader.rs; measurements are also computed by QEMU's
// hw/core/eif.c.
package eif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Sizes in bytes and places of the header, all integers big-endian.
const (
	headerSize        = 548
	sectionHeaderSize = 12
	maxSections       = 32
	sizesAt           = 284
	crcAt             = 544

	magic      = ".eif"
	version    = 4
	oldVersion = 2 // the first with a checksum; 3 brought signatures, 4 metadata
	flagARM64  = 1
)

// The reasons for which an image is refused.
var (
	errMalformed = errors.New("not an enclave image")
	errChecksum  = errors.New("the image is damaged: its checksum is wrong")
	errSignature = errors.New("the signature in the image is wrong")
)

// Encode returns the file.
func (im *Image) Encode() []byte {
	size := headerSize
	for _, s := range im.Sections {
		size += sectionHeaderSize + len(s.Data)
	}
	b := make([]byte, headerSize, size)
	copy(b, magic)
	binary.BigEndian.PutUint16(b[4:], im.Version)
	if im.Arch == ARM64 {
		binary.BigEndian.PutUint16(b[6:], flagARM64)
	}
	binary.BigEndian.PutUint64(b[8:], im.DefaultMemory)
	binary.BigEndian.PutUint64(b[16:], im.DefaultCPUs)
	binary.BigEndian.PutUint16(b[26:], uint16(len(im.Sections)))
	for i, s := range im.Sections {
		binary.BigEndian.PutUint64(b[28+8*i:], uint64(len(b)))
		binary.BigEndian.PutUint64(b[sizesAt+8*i:], uint64(len(s.Data)))
		b = binary.BigEndian.AppendUint16(b, uint16(s.Type))
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint64(b, uint64(len(s.Data)))
		b = append(b, s.Data...)
	}
	binary.BigEndian.PutUint32(b[crcAt:], checksum(b))
	return b
}

// checksum returns the CRC-32 over everything but the place where it is.
func checksum(file []byte) uint32 {
	crc := crc32.ChecksumIEEE(file[:crcAt])
	return crc32.Update(crc, crc32.IEEETable, file[headerSize:])
}

// Parse reads an image of ours or of nitro-cli. The sections of the result are
// parts of file, which must not change. It checks the checksum and, if the image
// is signed, that the key of the certificate in it signed exactly this image.
// The errors are [errMalformed], [errChecksum] and [errSignature].
func Parse(file []byte) (*Image, error) {
	im, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if binary.BigEndian.Uint32(file[crcAt:]) != checksum(file) {
		return nil, errChecksum
	}
	if err := im.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if raw := im.section(Signature); raw != nil {
		if im.signer, err = im.checkSignature(raw); err != nil {
			return nil, fmt.Errorf("%w: %w", errSignature, err)
		}
	}
	return im, nil
}

func parse(file []byte) (*Image, error) {
	if len(file) < headerSize || string(file[:4]) != magic {
		return nil, errors.New("it does not begin with the header of one")
	}
	im := &Image{
		Arch:          AMD64,
		Version:       binary.BigEndian.Uint16(file[4:]),
		DefaultMemory: binary.BigEndian.Uint64(file[8:]),
		DefaultCPUs:   binary.BigEndian.Uint64(file[16:]),
	}
	if im.Version < oldVersion || im.Version > version {
		return nil, fmt.Errorf("its format has version %d, not %d to %d", im.Version, oldVersion, version)
	}
	switch flags := binary.BigEndian.Uint16(file[6:]); flags {
	case 0:
	case flagARM64:
		im.Arch = ARM64
	default:
		return nil, fmt.Errorf("it has unknown flags: %#x", flags)
	}
	if binary.BigEndian.Uint16(file[24:]) != 0 || binary.BigEndian.Uint32(file[540:]) != 0 {
		return nil, errors.New("the reserved fields of its header are not zero")
	}
	count := int(binary.BigEndian.Uint16(file[26:]))
	if count > maxSections {
		return nil, fmt.Errorf("it has %d sections, more than %d", count, maxSections)
	}
	at := uint64(headerSize)
	for i := range maxSections {
		offset := binary.BigEndian.Uint64(file[28+8*i:])
		size := binary.BigEndian.Uint64(file[sizesAt+8*i:])
		if i >= count {
			if offset != 0 || size != 0 {
				return nil, fmt.Errorf("its header describes a section %d of %d", i+1, count)
			}
			continue
		}
		s, err := parseSection(file, at, offset, size)
		if err != nil {
			return nil, fmt.Errorf("section %d %w", i+1, err)
		}
		im.Sections = append(im.Sections, s)
		at += sectionHeaderSize + size
	}
	if at != uint64(len(file)) {
		return nil, fmt.Errorf("it has %d bytes after its last section", uint64(len(file))-at)
	}
	return im, nil
}

// parseSection reads the section at a place that is within the file or its end.
// The header of the file has to agree: loaders go by it, readers by the place.
func parseSection(file []byte, at, offset, size uint64) (Section, error) {
	if offset != at {
		return Section{}, fmt.Errorf("is listed at offset %d, not %d", offset, at)
	}
	rest := file[at:]
	if uint64(len(rest)) < sectionHeaderSize || uint64(len(rest))-sectionHeaderSize < size {
		return Section{}, errors.New("is cut off")
	}
	s := Section{Type: Type(binary.BigEndian.Uint16(rest)), Data: rest[sectionHeaderSize : sectionHeaderSize+size : sectionHeaderSize+size]}
	if s.Type < Kernel || s.Type > Metadata {
		return Section{}, fmt.Errorf("is of the unknown type %d", s.Type)
	}
	if binary.BigEndian.Uint16(rest[2:]) != 0 {
		return Section{}, errors.New("has flags")
	}
	if n := binary.BigEndian.Uint64(rest[4:]); n != size {
		return Section{}, fmt.Errorf("has %d bytes, or %d by the file's header", n, size)
	}
	return s, nil
}

// check checks that the sections make an image, in an order in which all
// readers measure the same.
func (im *Image) check() error {
	var order []Type
	limits := map[Type]int{Cmdline: maxCmdline, Metadata: maxMetadata, Signature: maxSignature}
	for _, s := range im.Sections {
		if limit, ok := limits[s.Type]; ok && len(s.Data) > limit {
			return fmt.Errorf("its %s has %d bytes, more than %d", s.Type, len(s.Data), limit)
		}
		if s.Type == Metadata || s.Type == Signature {
			continue
		}
		order = append(order, s.Type)
	}
	if len(order) < 3 || order[0] != Kernel || order[1] != Cmdline {
		return errors.New("it does not consist of a kernel, its command line, and a ramdisk, in this order")
	}
	if slices.ContainsFunc(order[2:], func(t Type) bool { return t != Ramdisk }) {
		return errors.New("it has more than one kernel or command line")
	}
	for _, t := range []Type{Metadata, Signature} {
		n := 0
		for _, s := range im.Sections {
			if s.Type == t {
				n++
			}
		}
		if n > 1 {
			return fmt.Errorf("it has more than one section of %s", t)
		}
	}
	return nil
}
