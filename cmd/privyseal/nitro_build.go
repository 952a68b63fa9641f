package main

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/eif"
	"privyseal/internal/policy"
)

// The most that is read, in bytes. Images have at most 16 MiB; those of others
// may be large.
const (
	maxImage = 1 << 30
	maxInput = 256 << 20
)

// cmdlines are the kernels' command lines, those of nitro-cli but for panic=1: a
// program that has ended is started again at once, and not after 30 s. They are the
// same for all images, and so tell where the kernel ends. Nothing that decides
// security stands here only: see kernel/nitro.config.
func cmdlines() map[eif.Arch]string {
	return map[eif.Arch]string{
		eif.AMD64: "reboot=k panic=1 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on",
		eif.ARM64: "reboot=k panic=1 pci=off nomodules console=ttyS0 random.trust_cpu=on",
	}
}

// buildFlags are the flags of `privyseal nitro build`.
type buildFlags struct {
	kernel, program, module, policy string
	signKey, signCert               string
	out                             string
	asJSON                          bool
}

func newNitroBuildCommand() *cobra.Command {
	f := &buildFlags{}
	cmd := &cobra.Command{
		Use:   "build --kernel FILE --policy FILE --out FILE",
		Short: "Build an enclave image, and print its measurements",
		Long: `Build an enclave image from a kernel, the enclave's program and a policy file, and
print its measurements. The same files give the same image, bit for bit, anywhere.

The program goes into the first ramdisk, so that PCR1 (kernel and program) is the
same for all who use a release; the policy goes into the second, so that PCR2 is
the policy. PCR0 is all of it. With --sign-key and --sign-cert (P-384, PEM) the
image is signed, and PCR8 is the certificate.`,
		Example: "  privyseal nitro build --kernel bzImage --policy policy.json --out privyseal.eif",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&f.kernel, "kernel", "", "bzImage (amd64) or Image (arm64)")
	cmd.Flags().StringVar(&f.program, "program", "", "static program to run inside (default: privyseal-enclave beside this program)")
	cmd.Flags().StringVar(&f.module, "nsm-module", "", "nsm.ko, for a kernel without the driver built in (AWS's own)")
	cmd.Flags().StringVar(&f.policy, "policy", "", "policy file, as of privyseal nitro policy-file")
	cmd.Flags().StringVar(&f.signKey, "sign-key", "", "PEM file of the key that signs the image")
	cmd.Flags().StringVar(&f.signCert, "sign-cert", "", "PEM file of its certificate")
	cmd.Flags().StringVar(&f.out, "out", "", "image to make")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print the measurements as nitro-cli does")
	return cmd
}

func (f *buildFlags) run(stdout, stderr io.Writer) error {
	switch {
	case f.kernel == "":
		return cli.Usagef("--kernel FILE is missing; doc/nitro.md says which to choose")
	case f.policy == "":
		return cli.Usagef("--policy FILE is missing; make one with `privyseal nitro policy-file`")
	case f.out == "":
		return cli.Usagef("--out FILE is missing: where the image goes")
	case (f.signKey == "") != (f.signCert == ""):
		return cli.Usagef("--sign-key and --sign-cert go together")
	}
	p, err := readPolicy(f.policy)
	if err != nil {
		return cli.OfFlag("policy", err)
	}
	warnTestPolicy(stderr, p)
	src, err := f.source(p)
	if err != nil {
		return err
	}
	im, err := eif.Build(src)
	if err != nil {
		return err
	}
	if err := cli.WriteNew(f.out, im.Encode(), 0o644); err != nil {
		return err
	}
	return printMeasurements(stdout, im, f.asJSON)
}

// source reads what the image is made of.
func (f *buildFlags) source(p *policy.Policy) (src eif.Source, err error) {
	if src.Kernel, err = cli.ReadBounded(f.kernel, maxInput); err != nil {
		return src, cli.OfFlag("kernel", err)
	}
	second, err := policyRamdisk(p)
	if err != nil {
		return src, err
	}
	program, arch, err := f.readProgram()
	if err != nil {
		return src, err
	}
	if err := eif.CheckKernel(arch, src.Kernel); err != nil {
		return src, fmt.Errorf("--kernel %s: %w", f.kernel, err)
	}
	module, err := f.readModule(arch)
	if err != nil {
		return src, err
	}
	first, err := eif.ProgramRamdisk(program, module)
	if err != nil {
		return src, err
	}
	src.Arch, src.Ramdisks, src.Cmdline = arch, [][]byte{first, second}, cmdlines()[arch]
	// Not measured, and the same whoever builds: the version of what is inside is
	// in PCR1.
	src.About = eif.Description{Name: "privyseal", Version: "1", Tool: "privyseal nitro build", ToolVersion: "1", OperatingSystem: "Linux", KernelVersion: "unknown"}
	if f.signKey == "" {
		return src, nil
	}
	key, err := cli.ReadBounded(f.signKey, 1<<16)
	if err != nil {
		return src, cli.OfFlag("sign-key", err)
	}
	defer clear(key)
	cert, err := cli.ReadBounded(f.signCert, 1<<16)
	if err != nil {
		return src, cli.OfFlag("sign-cert", err)
	}
	src.Sign, err = eif.NewSigner(key, cert)
	return src, err
}

// The packages of our programs, as Go writes them into these. Any other program may go
// into an image, such as one that measures.
const (
	commands       = "privyseal/cmd/"
	enclaveProgram = commands + "privyseal-enclave"
)

// readProgram reads the program, which has to run without anything else.
func (f *buildFlags) readProgram() ([]byte, eif.Arch, error) {
	path := f.program
	if path == "" {
		own, err := os.Executable()
		if err != nil {
			return nil, "", fmt.Errorf("cannot tell where the enclave's program is: %w; add --program FILE", err)
		}
		path = filepath.Join(filepath.Dir(own), "privyseal-enclave")
	}
	program, err := cli.ReadBounded(path, maxInput)
	if errors.Is(err, fs.ErrNotExist) && f.program == "" {
		return nil, "", cli.Usagef("there is no %s; add --program FILE, which `make` builds as bin/privyseal-enclave", path)
	}
	if err != nil {
		return nil, "", cli.OfFlag("program", err)
	}
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, "", fmt.Errorf("%s is no program for Linux", path)
	}
	if info, err := buildinfo.Read(bytes.NewReader(program)); err == nil && info.Path != enclaveProgram && strings.HasPrefix(info.Path, commands) {
		return nil, "", cli.Usagef("%s is %s, and not the enclave's program: that is privyseal-enclave of the same release, or bin/privyseal-enclave of `make`", path, info.Path)
	}
	arch, known := archs()[file.Machine]
	if !known {
		return nil, "", fmt.Errorf("%s is for %s; enclaves have x86-64 or arm64", path, file.Machine)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, "", fmt.Errorf("%s is not static, and the enclave has no libraries: build it with `make`, or with CGO_ENABLED=0 go build", path)
		}
	}
	return program, arch, nil
}

func archs() map[elf.Machine]eif.Arch {
	return map[elf.Machine]eif.Arch{elf.EM_X86_64: eif.AMD64, elf.EM_AARCH64: eif.ARM64}
}

// readModule reads the driver, nil if none is asked for. A file that the kernel
// refuses to load would show as an enclave that never answers.
func (f *buildFlags) readModule(arch eif.Arch) ([]byte, error) {
	if f.module == "" {
		return nil, nil
	}
	module, err := cli.ReadBounded(f.module, maxInput)
	if err != nil {
		return nil, cli.OfFlag("nsm-module", err)
	}
	file, err := elf.NewFile(bytes.NewReader(module))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--nsm-module %s is no kernel module (%w); take the nsm.ko of that kernel, unpacked (unxz, unzstd, gunzip)", f.module, err)
	case file.Type != elf.ET_REL || file.Class != elf.ELFCLASS64:
		return nil, fmt.Errorf("--nsm-module %s is no kernel module but %s, %s; take the nsm.ko of that kernel", f.module, file.Type, file.Class)
	case archs()[file.Machine] != arch:
		return nil, fmt.Errorf("--nsm-module %s is for %s, the program for %s; take the nsm.ko of that kernel", f.module, file.Machine, arch)
	}
	return module, nil
}

func newNitroMeasureCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "measure FILE",
		Short: "Print the measurements of an enclave image",
		Long: `Print the measurements of an enclave image, ours or nitro-cli's: what the
hypervisor computes when it is launched, and attestation documents and KMS
policies name. A wrong checksum or signature is an error.

PCR1 is that of a release only for an image that is laid out as "privyseal nitro
build" does it: with more behind the first ramdisk than a policy, or with kernel and
command line cut elsewhere, something else may run under the same PCR1. Of such an
image it is said, on standard error.`,
		Args: cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			im, err := readImage(args[0])
			if err != nil {
				return err
			}
			if p, err := imagePolicy(im); p == nil || err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: this is no image of `privyseal nitro build`: its PCR1 alone does not tell what program runs")
			} else if why := otherProgram(im); why != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: "+why)
			}
			return printMeasurements(cmd.OutOrStdout(), im, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as nitro-cli does")
	return cmd
}

// printMeasurements prints the registers of an image, and who signed it.
func printMeasurements(w io.Writer, im *eif.Image, asJSON bool) error {
	m, by := im.Measure(), im.SignedBy()
	if asJSON {
		out := struct{ Measurements map[string]string }{map[string]string{
			"HashAlgorithm": "Sha384 { ... }", "PCR0": m.PCR0.String(), "PCR1": m.PCR1.String(), "PCR2": m.PCR2.String(),
		}}
		if by != nil {
			out.Measurements["PCR8"] = m.PCR8.String()
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(out)
	}
	_, err := fmt.Fprintf(w, "PCR0 %s\nPCR1 %s\nPCR2 %s\n", m.PCR0, m.PCR1, m.PCR2)
	switch {
	case err != nil:
	case by == nil:
		_, err = fmt.Fprintln(w, "PCR8 zero: the image is not signed")
	default:
		c := by.Certificate
		_, err = fmt.Fprintf(w, "PCR8 %s\n     signed by %q; starts from %s to %s\n", m.PCR8, c.Subject, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return err
}

func readImage(path string) (*eif.Image, error) {
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

func readPolicy(path string) (*policy.Policy, error) {
	data, err := cli.ReadBounded(path, policy.MaxSize)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// policyRamdisk returns the second ramdisk of an image with this policy.
func policyRamdisk(p *policy.Policy) ([]byte, error) {
	data, err := p.Encode()
	if err != nil {
		return nil, err
	}
	return eif.FileRamdisk(policy.File, data)
}

// imagePolicy returns the policy of an image of ours, nil for any other.
//
// The registers are hashes of sections one after the other, whatever their
// boundaries: an image whose kernel ends within our command line measures the same
// and boots without it. So command line and ramdisks have to be those of `nitro
// build`, to the byte.
func imagePolicy(im *eif.Image) (*policy.Policy, error) {
	disks := im.Ramdisks()
	if len(disks) != 2 || im.Cmdline() != cmdlines()[im.Arch] {
		return nil, nil
	}
	if _, _, ok := eif.ProgramIn(disks[0]); !ok {
		return nil, nil
	}
	data, ok := eif.FileIn(policy.File, disks[1])
	if !ok {
		return nil, nil
	}
	return policy.Parse(data)
}

// imageProgram returns the package of the program in an image of ours, as Go writes
// it, which any program can have written into it; "" if there is none.
func imageProgram(im *eif.Image) string {
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

// otherProgram says that an image of ours has a program that does not even say that it
// is ours; "" if it does, or says nothing.
func otherProgram(im *eif.Image) string {
	name := imageProgram(im)
	if name == "" || name == enclaveProgram {
		return ""
	}
	return fmt.Sprintf("the image's program says of itself that it is %.80q, and not privyseal-enclave; compare PCR1 with the release's", name)
}
