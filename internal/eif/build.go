package eif

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// What an image without a launcher's wishes gets: the values of nitro-cli.
const (
	defaultMemory = 1 << 30
	defaultCPUs   = 2
)

// maxBootCmdline is COMMAND_LINE_SIZE of Linux on both processors, less the NUL.
// What the hypervisor appends has to fit in as well.
const maxBootCmdline = 2047

// Description is the metadata of an image. It is for people: no register
// measures it. AWS's tools want all fields to be there.
type Description struct {
	Name, Version                  string // of the image
	Tool, ToolVersion              string // that built it
	OperatingSystem, KernelVersion string
}

// Source is what an image is made of.
type Source struct {
	Arch     Arch
	Kernel   []byte // a bzImage for amd64, an Image for arm64
	Cmdline  string
	Ramdisks [][]byte // the first is in PCR1, the others in PCR2
	About    Description
	Sign     *Signer // nil leaves the image unsigned
}

// Build makes an image, in the order of sections of nitro-cli: kernel, command
// line, metadata, ramdisks, signature. The same source gives the same image.
func Build(src Source) (*Image, error) {
	if err := src.check(); err != nil {
		return nil, fmt.Errorf("cannot build the image: %w", err)
	}
	about, err := src.About.encode()
	if err != nil {
		return nil, fmt.Errorf("cannot build the image: %w", err)
	}
	im := &Image{Arch: src.Arch, Version: version, DefaultMemory: defaultMemory, DefaultCPUs: defaultCPUs, Sections: []Section{
		{Kernel, src.Kernel}, {Cmdline, []byte(src.Cmdline)}, {Metadata, about},
	}}
	for _, r := range src.Ramdisks {
		im.Sections = append(im.Sections, Section{Ramdisk, r})
	}
	if src.Sign != nil {
		raw, err := src.Sign.sign(im.Measure().PCR0)
		if err != nil {
			return nil, fmt.Errorf("cannot sign the image: %w", err)
		}
		im.Sections = append(im.Sections, Section{Signature, raw})
		if im.signer, err = im.checkSignature(raw); err != nil {
			return nil, fmt.Errorf("cannot sign the image: %w", err)
		}
	}
	if err := im.check(); err != nil {
		return nil, fmt.Errorf("cannot build the image: %w", err)
	}
	return im, nil
}

func (src *Source) check() error {
	switch {
	case src.Arch != AMD64 && src.Arch != ARM64:
		return fmt.Errorf("the processor %.20q is unknown; it has to be amd64 or arm64", src.Arch)
	case len(src.Kernel) == 0:
		return errors.New("there is no kernel")
	case len(src.Ramdisks) == 0:
		return errors.New("there is no ramdisk")
	case len(src.Ramdisks) > maxSections-4:
		return fmt.Errorf("there are %d ramdisks, more than %d", len(src.Ramdisks), maxSections-4)
	case len(src.Cmdline) > maxBootCmdline:
		return fmt.Errorf("the command line has %d bytes, more than %d", len(src.Cmdline), maxBootCmdline)
	case strings.ContainsFunc(src.Cmdline, func(r rune) bool { return r < ' ' || r > '~' }):
		return errors.New("the command line holds something other than printable ASCII")
	}
	if arch, ok := archOf(src.Kernel); ok && arch != src.Arch {
		return fmt.Errorf("the kernel is for %s, the image for %s", arch, src.Arch)
	}
	return nil
}

// CheckKernel refuses a file that no hypervisor of AWS boots as a kernel for arch:
// it takes a bzImage for amd64 and an Image for arm64. The error says what the file
// is instead, if that can be seen. Build and Parse do not ask: measurements are of any
// bytes.
func CheckKernel(arch Arch, kernel []byte) error {
	name := map[Arch]string{AMD64: "bzImage", ARM64: "Image"}[arch]
	is, ok := archOf(kernel)
	switch {
	case ok && is == arch:
		return nil
	case ok:
		return fmt.Errorf("the kernel is for %s, the program for %s; take the %s of the same kernel, or the program for %s", is, arch, name, is)
	case bytes.HasPrefix(kernel, []byte("\x7fELF")):
		return fmt.Errorf("it is ELF, as vmlinux is; take the %s, which `make %s` puts into arch/%s/boot", name, name, map[Arch]string{AMD64: "x86", ARM64: "arm64"}[arch])
	case bytes.HasPrefix(kernel, []byte("\x1f\x8b")) || len(kernel) > 8 && string(kernel[4:8]) == "zimg":
		return fmt.Errorf("it is compressed; unpack it to the %s", name)
	}
	return errors.New("it is not a kernel: the hypervisor boots a bzImage (amd64) or an Image (arm64); kernel/build makes both")
}

// archOf recognises a kernel by the magic of Documentation/arch/x86/boot.rst
// or Documentation/arch/arm64/booting.rst.
func archOf(kernel []byte) (Arch, bool) {
	at := func(offset int, magic string) bool {
		return len(kernel) >= offset+len(magic) && string(kernel[offset:offset+len(magic)]) == magic
	}
	switch {
	case at(0x202, "HdrS"):
		return AMD64, true
	case at(0x38, "ARM\x64"):
		return ARM64, true
	}
	return "", false
}

// encode returns the JSON that nitro-cli describes. The time is fixed: an image
// has to come out the same tomorrow.
func (d Description) encode() ([]byte, error) {
	type build struct {
		BuildTime        string
		BuildTool        string
		BuildToolVersion string
		OperatingSystem  string
		KernelVersion    string
	}
	type empty struct{}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		ImageName      string
		ImageVersion   string
		BuildMetadata  build
		DockerInfo     empty
		CustomMetadata empty
	}{
		ImageName: d.Name, ImageVersion: d.Version,
		BuildMetadata: build{"1970-01-01T00:00:00+00:00", d.Tool, d.ToolVersion, d.OperatingSystem, d.KernelVersion},
	})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
