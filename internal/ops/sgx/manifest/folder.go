package manifest

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
	"privyseal/internal/durable"
	"privyseal/internal/policy"
	"privyseal/internal/sgxhost"
	"privyseal/internal/shell"
)

// maxProgram bounds the program in bytes: ours has 8 MiB, and the enclave's memory 2 GiB.
const maxProgram = 256 << 20

// folder is `privyseal sgx manifest`.
type folder struct {
	policy, program, out string
	is                   identity
}

// New returns the command.
func New() *cobra.Command {
	f := &folder{}
	cmd := &cobra.Command{
		Use:   "manifest --policy FILE --out FOLDER",
		Short: "Make the folder of an SGX enclave, for gramine-sgx-sign",
		Long: `Make the folder of an SGX enclave: its program, its policy and the manifest by which
Gramine measures and runs both. Nothing in the folder is overwritten. What to type next, to
sign it and to see its measurement, is printed; it is signed in the folder, and needs no SGX.

MRENCLAVE changes with each byte of the three files, and with the version of Gramine, whose
loader and library OS are measured too, and the path that it is installed at: doc/sgx.md
pins Gramine 1.9. The same files, signed by the same Gramine, have the same MRENCLAVE
anywhere, whoever signs and whenever. A key that is sealed to MRENCLAVE comes to another one
by "privyseal sgx recover".

--product and --svn are the signer's word on it (ISVPRODID, ISVSVN), which quotes have, and
for which "privyseal verify" has --product and --min-svn. Raise --svn when an older build
must no longer be accepted, and not for each release: the CPU derives its seal keys from it,
MRENCLAVE's and MRSIGNER's, so that each raise is a "privyseal sgx recover" for each key.`,
		Example: "  privyseal sgx manifest --policy policy.json --out sgx",
		Args:    cli.Arguments(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.ErrOrStderr()) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.policy, "policy", "", "policy file that \"privyseal sgx policy\" printed")
	fl.StringVar(&f.program, "program", "", "static program to run inside (default: privyseal-sgx beside this program)")
	fl.StringVar(&f.out, "out", "", "folder to make")
	fl.Uint16Var(&f.is.product, "product", 1, "number of the product, ISVPRODID: what is sealed to a signer is so for one product")
	fl.Uint16Var(&f.is.svn, "svn", 1, "security version of the product, ISVSVN; each raise changes the seal keys")
	return cmd
}

func (f *folder) run(stderr io.Writer) error {
	switch {
	case f.policy == "":
		return cli.Usagef("--policy FILE is missing; make one with `privyseal sgx policy`")
	case f.out == "":
		return cli.Usagef("--out FOLDER is missing: where the enclave's files go")
	}
	p, err := readPolicy(f.policy)
	if err != nil {
		return cli.OfFlag("policy", err)
	}
	encoded, err := p.Encode()
	if err != nil {
		return err
	}
	program, err := f.readProgram()
	if err != nil {
		return err
	}
	warn(stderr, p)
	err = write(f.out, []file{
		{sgxhost.ProgramFile, program, 0o755},
		{policy.File, encoded, 0o644},
		{sgxhost.ManifestFile, f.is.text(), 0o644},
	})
	if err != nil {
		return err
	}
	return sayNext(stderr, f.out)
}

func readPolicy(path string) (*policy.Policy, error) {
	data, err := cli.ReadBounded(path, policy.MaxSize)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data, policy.OfSGX)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// readProgram reads the program, which has to run without anything else.
func (f *folder) readProgram() ([]byte, error) {
	path := f.program
	if path == "" {
		own, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find the enclave's program: %w; add --program FILE", err)
		}
		path = filepath.Join(filepath.Dir(own), sgxhost.ProgramFile)
	}
	program, err := cli.ReadBounded(path, maxProgram)
	if errors.Is(err, fs.ErrNotExist) && f.program == "" {
		return nil, cli.Usagef("there is no %s; add --program FILE, which `make` builds as bin/%s", path, sgxhost.ProgramFile)
	}
	if err != nil {
		return nil, cli.OfFlag("program", err)
	}
	if err := checkProgram(program); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return program, nil
}

// commands is what the packages of our programs begin with, as Go writes them into these. Any
// other program may go into an enclave, such as one that measures.
const commands = "privyseal/cmd/"

// checkProgram says why a program does not run in an enclave; the name of its file goes before.
func checkProgram(program []byte) error {
	is, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return errors.New("is not a program for Linux")
	}
	if info, err := buildinfo.Read(bytes.NewReader(program)); err == nil && info.Path != commands+sgxhost.ProgramFile && strings.HasPrefix(info.Path, commands) {
		return cli.Usagef("is %s, and not the enclave's program: that is %s of the same release, or bin/%[2]s of `make`", info.Path, sgxhost.ProgramFile)
	}
	if is.Machine != elf.EM_X86_64 || is.Class != elf.ELFCLASS64 {
		return fmt.Errorf("is for %s, and SGX is of x86-64 with 64 bits", is.Machine)
	}
	if is.Type != elf.ET_EXEC && is.Type != elf.ET_DYN {
		return fmt.Errorf("is not a program, but %s", is.Type)
	}
	for _, p := range is.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("is not static, and the enclave has no libraries: build it with `make`, or with CGO_ENABLED=0 go build")
		}
	}
	return nil
}

// file is one of the folder.
type file struct {
	name string
	data []byte
	mode fs.FileMode
}

// write makes the folder and the files in it, the manifest last: where there is one, the
// folder is whole.
func write(dir string, files []file) error {
	// What was signed before would be run instead.
	names := []string{sgxhost.SignedFile, sgxhost.SignatureFile}
	for _, f := range files {
		names = append(names, f.name)
	}
	for _, n := range names {
		if _, err := os.Lstat(filepath.Join(dir, n)); err == nil {
			return cli.Usagef("%s is there already, and nothing in the folder of an enclave is overwritten; choose another folder", filepath.Join(dir, n))
		}
	}
	if _, err := durable.Folders(dir); err != nil {
		return err
	}
	for _, f := range files {
		if err := cli.WriteNew(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// sayNext prints what to type next. Gramine looks for the files in the folder that it is
// called in.
func sayNext(w io.Writer, dir string) error {
	_, err := fmt.Fprintf(w, `next, sign it, with a key that is not on the validator's machine, as one of "openssl genrsa -3 -out enclave-key.pem 3072":
%s
privyseal sgx measure %s
`, sgxhost.SignCommand(dir), shell.File(filepath.Join(dir, sgxhost.SignatureFile)))
	return err
}
