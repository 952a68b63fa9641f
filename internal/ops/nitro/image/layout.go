// Package image is what the operator's machine does for an enclave before it runs, and
// without it: build and measure the image, write the policy that goes into it, write and
// judge the policy of the KMS key.
//
// It launches nothing, and asks neither AWS nor an instance. An image at hand is whatever
// its file says; that it is one that was built here, to the byte, is what [Policy]
// answers.
package image

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"

	"privyseal/internal/cli"
	"privyseal/internal/eif"
	"privyseal/internal/policy"
)

// Cmdlines are the kernels' command lines, those of nitro-cli but for two words. panic=30
// is left out: how long the kernel of an enclave that has failed waits is no matter of a
// command line (kernel/nitro.config, and endEarly of internal/enclave/nitro). So is
// root=/dev/ram0 of arm64: the ramdisks are unpacked and hold /init, so that the kernel
// looks for no root, and AWS's kernels have no such device. The lines are the same for all
// images, and so show where the kernel ends. Nothing that decides security stands here
// only.
func Cmdlines() map[eif.Arch]string {
	return map[eif.Arch]string{
		eif.AMD64: "reboot=k pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on",
		eif.ARM64: "reboot=k pci=off nomodules console=ttyS0 random.trust_cpu=on",
	}
}

// earlierCmdlines are those of images that an earlier `nitro build` made. None is the end of
// another one, or of one of Cmdlines: a kernel that ends elsewhere is not ours.
func earlierCmdlines() map[eif.Arch]string {
	return map[eif.Arch]string{
		eif.AMD64: "reboot=k panic=1 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on",
		eif.ARM64: "reboot=k panic=1 pci=off nomodules console=ttyS0 random.trust_cpu=on",
	}
}

// The packages of our programs, as Go writes them into these. Any other program may go
// into an image, such as one that measures.
const (
	commands       = "privyseal/cmd/"
	EnclaveProgram = commands + "privyseal-enclave"
)

// maxImage is the most that is read of an image, in bytes. Ours have at most 16 MiB;
// those of others may be large.
const maxImage = 1 << 30

// Read reads an image, ours or another one.
func Read(path string) (*eif.Image, error) {
	data, err := cli.ReadBounded(path, maxImage)
	if err != nil {
		return nil, err
	}
	im, err := eif.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return im, nil
}

// ReadPolicy reads a policy file.
func ReadPolicy(path string) (*policy.Policy, error) {
	data, err := cli.ReadBounded(path, policy.MaxSize)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data, policy.Nitro)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// PolicyRamdisk returns the second ramdisk of an image with this policy.
func PolicyRamdisk(p *policy.Policy) ([]byte, error) {
	data, err := p.Encode()
	if err != nil {
		return nil, err
	}
	return eif.FileRamdisk(policy.File, data)
}

// Policy returns the policy of an image of ours, nil for any other.
//
// The registers are hashes of sections one after the other, whatever their
// boundaries: an image whose kernel ends within our command line measures the same
// and boots without it. So command line and ramdisks have to be those of `nitro
// build`, to the byte.
func Policy(im *eif.Image) (*policy.Policy, error) {
	disks := im.Ramdisks()
	if line := im.Cmdline(); len(disks) != 2 || line != Cmdlines()[im.Arch] && line != earlierCmdlines()[im.Arch] {
		return nil, nil
	}
	if _, _, ok := eif.ProgramIn(disks[0]); !ok {
		return nil, nil
	}
	data, ok := eif.FileIn(policy.File, disks[1])
	if !ok {
		return nil, nil
	}
	return policy.Parse(data, policy.Nitro)
}

// Program returns the package of the program in an image of ours, as Go writes
// it, which any program can have written into it; "" if there is none.
func Program(im *eif.Image) string {
	program, _, ok := eif.ProgramIn(im.Ramdisks()[0])
	if !ok {
		return ""
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return ""
	}
	return info.Path
}

// OtherProgram says that an image of ours has a program that does not even say that it
// is ours; "" if it does, or says nothing.
func OtherProgram(im *eif.Image) string {
	name := Program(im)
	if name == "" || name == EnclaveProgram {
		return ""
	}
	return fmt.Sprintf("the image's program calls itself %.80q, and not privyseal-enclave; compare PCR1 with the release's", name)
}

// ForTests says why documents of an image with this policy prove nothing; nil for
// one of production.
func ForTests(p *policy.Policy) (why []string) {
	if p.AttestationRoot != "" {
		why = append(why, "this image is for tests: its policy names an attestation root that is not AWS's, so that its documents prove nothing")
	}
	if err := p.CheckKMS(); err != nil {
		why = append(why, fmt.Sprintf("this image is for tests: its policy trusts a KMS that is not known to be AWS's (%v), and whoever runs it knows every key", err))
	}
	if p.DynamoDB.Named() {
		if err := p.CheckTable(); err != nil {
			why = append(why, fmt.Sprintf("this image is for tests: its policy trusts a DynamoDB that is not known to be AWS's (%v), and whoever runs it can bring an old mark back", err))
		}
	}
	return why
}

func WarnForTests(w io.Writer, p *policy.Policy) {
	for _, why := range ForTests(p) {
		fmt.Fprintln(w, "WARNING: "+why)
	}
}
