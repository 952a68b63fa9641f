package image

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/eif"
	"privyseal/internal/policy"
)

// maxInput is the most that is read of a part of an image, in bytes.
const maxInput = 256 << 20

// buildFlags are the flags of `privyseal nitro build`.
type buildFlags struct {
	kernel, program, module, policy string
	signKey, signCert               string
	out                             string
	asJSON                          bool
}

func NewBuild() *cobra.Command {
	f := &buildFlags{}
	cmd := &cobra.Command{
		Use:   "build --kernel FILE --policy FILE --out FILE",
		Short: "Build an enclave image, and print its measurements",
		Long: `Build an enclave image from a kernel, the enclave's program and a policy file, and
print its measurements. The same files give the same image, bit for bit, anywhere.

The program goes into the first ramdisk, so PCR1 (kernel and program) is the same for
everybody who uses a release; the policy goes into the second, and PCR2 measures it.
PCR0 measures everything. With --sign-key and --sign-cert (P-384, PEM) the image is
signed, and PCR8 measures the certificate.`,
		Example: "  privyseal nitro build --kernel bzImage --policy policy.json --out privyseal.eif",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&f.kernel, "kernel", "", "bzImage (amd64) or Image (arm64)")
	cmd.Flags().StringVar(&f.program, "program", "", "static program to run inside (default: privyseal-enclave beside this program)")
	cmd.Flags().StringVar(&f.module, "nsm-module", "", "nsm.ko, for a kernel without the driver built in (AWS's own)")
	cmd.Flags().StringVar(&f.policy, "policy", "", "policy file that \"privyseal nitro image-policy\" printed")
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
		return cli.Usagef("--policy FILE is missing; make one with `privyseal nitro image-policy`")
	case f.out == "":
		return cli.Usagef("--out FILE is missing: where the image goes")
	case (f.signKey == "") != (f.signCert == ""):
		return cli.Usagef("--sign-key and --sign-cert go together")
	}
	p, err := ReadPolicy(f.policy)
	if err != nil {
		return cli.OfFlag("policy", err)
	}
	WarnForTests(stderr, p)
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
	second, err := PolicyRamdisk(p)
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
	src.Arch, src.Ramdisks, src.Cmdline = arch, [][]byte{first, second}, Cmdlines()[arch]
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

// readProgram reads the program, which has to run without anything else.
func (f *buildFlags) readProgram() ([]byte, eif.Arch, error) {
	path := f.program
	if path == "" {
		own, err := os.Executable()
		if err != nil {
			return nil, "", fmt.Errorf("cannot find the enclave's program: %w; add --program FILE", err)
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
		return nil, "", fmt.Errorf("%s is not a program for Linux", path)
	}
	if info, err := buildinfo.Read(bytes.NewReader(program)); err == nil && info.Path != EnclaveProgram && strings.HasPrefix(info.Path, commands) {
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
		return nil, fmt.Errorf("--nsm-module %s is not a kernel module (%w); take the nsm.ko of that kernel, unpacked (unxz, unzstd, gunzip)", f.module, err)
	case file.Type != elf.ET_REL || file.Class != elf.ELFCLASS64:
		return nil, fmt.Errorf("--nsm-module %s is not a kernel module but %s, %s; take the nsm.ko of that kernel", f.module, file.Type, file.Class)
	case archs()[file.Machine] != arch:
		return nil, fmt.Errorf("--nsm-module %s is for %s, the program for %s; take the nsm.ko of that kernel", f.module, file.Machine, arch)
	}
	return module, nil
}
