package rig

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/fxamacker/cbor/v2"
)

// image is an enclave image, taken apart as the hypervisor does.
// Format: defs of aws-nitro-enclaves-image-format; hw/core/eif.c of QEMU.
type image struct {
	arm64           bool
	kernel, cmdline []byte
	ramdisks        [][]byte
	certificate     []byte // DER of who signed it; nil if nobody did
	name, version   string // of its metadata
	metadata        map[string]any
}

const (
	imageHeader   = 548
	sectionHeader = 12

	sectionKernel    = 1
	sectionCmdline   = 2
	sectionRamdisk   = 3
	sectionSignature = 4
	sectionMetadata  = 5
)

func readImage(b []byte) (*image, error) {
	if len(b) < imageHeader || string(b[:4]) != ".eif" {
		return nil, errors.New("not an enclave image")
	}
	be := binary.BigEndian
	sum := crc32.NewIEEE()
	sum.Write(b[:imageHeader-4])
	sum.Write(b[imageHeader:])
	if got, want := sum.Sum32(), be.Uint32(b[imageHeader-4:]); got != want {
		return nil, fmt.Errorf("the image's CRC is %08x, its header says %08x", got, want)
	}
	im := &image{arm64: be.Uint16(b[6:])&1 != 0}
	for i := range int(be.Uint16(b[26:])) {
		if i >= 32 {
			return nil, errors.New("more than 32 sections")
		}
		offset, size := be.Uint64(b[28+8*i:]), be.Uint64(b[284+8*i:])
		if offset > uint64(len(b)) || uint64(len(b))-offset < sectionHeader || size > uint64(len(b))-offset-sectionHeader {
			return nil, fmt.Errorf("section %d lies outside", i)
		}
		section := b[offset:]
		if be.Uint64(section[4:]) != size {
			return nil, fmt.Errorf("section %d has two sizes", i)
		}
		if err := im.add(be.Uint16(section), section[sectionHeader:][:size]); err != nil {
			return nil, err
		}
	}
	if im.kernel == nil || im.cmdline == nil || len(im.ramdisks) == 0 {
		return nil, errors.New("the image lacks kernel, command line or ramdisk")
	}
	return im, nil
}

func (im *image) add(kind uint16, data []byte) error {
	switch kind {
	case sectionKernel:
		im.kernel = data
	case sectionCmdline:
		im.cmdline = data
	case sectionRamdisk:
		im.ramdisks = append(im.ramdisks, data)
	case sectionSignature:
		var signatures []struct {
			Certificate []int `cbor:"signing_certificate"`
		}
		if err := cbor.Unmarshal(data, &signatures); err != nil || len(signatures) != 1 {
			return fmt.Errorf("signature section: %d signatures, %v", len(signatures), err)
		}
		text := make([]byte, len(signatures[0].Certificate))
		for i, v := range signatures[0].Certificate {
			text[i] = byte(v)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return errors.New("signature section: no certificate")
		}
		im.certificate = block.Bytes
	case sectionMetadata:
		return im.readMetadata(data)
	default:
		return fmt.Errorf("section type %d", kind)
	}
	return nil
}

// readMetadata reads what EifIdentityInfo in src/defs/mod.rs of
// aws-nitro-enclaves-image-format needs: without one of these keys nitro-cli cannot
// describe the enclave. It prints them as MetadataDescribeInfo in
// src/common/json_output.rs of aws-nitro-enclaves-cli does.
func (im *image) readMetadata(data []byte) error {
	var m struct {
		ImageName, ImageVersion    *string
		BuildMetadata              map[string]any
		DockerInfo, CustomMetadata json.RawMessage
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("metadata section: %w", err)
	}
	for _, key := range []string{"BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion"} {
		if _, isText := m.BuildMetadata[key].(string); !isText {
			return fmt.Errorf("metadata section: no %s", key)
		}
	}
	if m.ImageName == nil || m.ImageVersion == nil || m.DockerInfo == nil || m.CustomMetadata == nil {
		return errors.New("metadata section: ImageName, ImageVersion, DockerInfo or CustomMetadata is missing")
	}
	im.name, im.version, im.metadata = *m.ImageName, *m.ImageVersion, m.BuildMetadata
	im.metadata["DockerInfo"] = m.DockerInfo
	return nil
}

// Certificate returns the certificate of who signed an image, DER, or nil.
func Certificate(file []byte) []byte {
	if im, err := readImage(file); err == nil {
		return im.certificate
	}
	return nil
}

// pcr is a platform configuration register.
type pcr = [48]byte

// extend is what a register becomes that was before and is extended by data.
func extend(before pcr, data []byte) pcr {
	return sha512.Sum384(append(before[:], data...))
}

func digest(parts ...[]byte) []byte {
	h := sha512.New384()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// measure returns the registers 0, 1, 2 and 8 by index.
func (im *image) measure() map[int]pcr {
	base := [][]byte{im.kernel, im.cmdline}
	pcrs := map[int]pcr{
		0: extend(pcr{}, digest(append(base, im.ramdisks...)...)),
		1: extend(pcr{}, digest(append(base, im.ramdisks[0])...)),
		2: extend(pcr{}, digest(im.ramdisks[1:]...)),
		8: {},
	}
	if im.certificate != nil {
		pcrs[8] = extend(pcr{}, digest(im.certificate))
	}
	return pcrs
}
