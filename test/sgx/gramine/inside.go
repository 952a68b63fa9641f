//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"privyseal/internal/sgx/sgxtest"
	"privyseal/test/sgx/fuse"
	"privyseal/test/sgx/rig"
)

// refused is a start that Gramine ends with status 1, after these lines.
type refused []string

func (r refused) Error() string { return strings.Join(r, "\n") }

// Words of unix_strerror.
const (
	ePERM  = "Operation not permitted (EPERM)"
	eNOENT = "No such file or directory (ENOENT)"
	eCONN  = "Connection refused (ECONNREFUSED)"
)

// inside is the process in namespaces of its own.
func inside(m *rig.Machine, args []string) int {
	term := os.NewFile(3, "SIGTERM")
	unix.CloseOnExec(3)
	name := args[0]
	e, err := load(m, name)
	if err == nil {
		err = e.mount(m)
	}
	if err == nil {
		warn(e.text)
		if len(args) > 1 {
			say("[P1:T1:] error: Discarding cmdline arguments (%s %s [...]) because loader.argv was specified in the manifest.", name, args[1])
		}
		say("Emulating a raw syscall instruction. This degrades performance, consider patching your application to use Gramine syscall API.")
		return e.run(m, term)
	}
	if r, ok := errors.AsType[refused](err); ok {
		say("%v", r)
		return 1
	}
	return ill(err)
}

// enclave is one that has started.
type enclave struct {
	manifest *rig.Manifest
	text     []byte
	report   sgxtest.Enclave
	misc     uint32
}

// load is load_enclave in pal/src/host/linux-sgx/host_main.c, with what the driver and the
// CPU look at.
func load(m *rig.Machine, name string) (*enclave, error) {
	say("Gramine is starting. Parsing TOML manifest file, this may take some time...")
	text, err := os.ReadFile(name + ".manifest.sgx")
	if err != nil {
		return nil, refused{"error: Reading manifest failed"}
	}
	e := &enclave{text: text}
	if e.manifest, err = rig.ParseManifest(text); err != nil {
		return nil, refused{"error: PAL failed at parsing the manifest: " + err.Error(), "error: Parsing manifest failed"}
	}
	if m.NoDriver {
		return nil, refused{"error: Cannot open /dev/sgx_enclave (" + eNOENT + "). This may happen because the current user has insufficient" +
			"permissions to this device, your kernel is too old or your machine doesn't support SGX. Use is-sgx-available tool to get more information.",
			"error: load_enclave() failed with error: " + eNOENT}
	}
	sig, err := os.ReadFile(name + ".sig")
	if err != nil {
		return nil, refused{"error: Cannot open sigstruct file " + name + ".sig", "error: Reading enclave sigstruct failed: " + eNOENT, "error: load_enclave() failed with error: " + eNOENT}
	}
	if e.report, e.misc, err = rig.Start(sig, text); err != nil {
		return nil, refused{"error: Enclave initialization IOCTL failed: " + err.Error(), "error: Initializing enclave failed: " + ePERM, "error: load_enclave() failed with error: " + ePERM}
	}
	if e.manifest.SGX.Attestation == "dcap" && m.NoAESM {
		return nil, refused{noAESM, "error: load_enclave() failed with error: " + eCONN}
	}
	return e, nil
}

// noAESM is from pal/src/host/linux-sgx/host_platform.c.
const noAESM = "error: Cannot connect to AESM service (tried sgx_aesm_socket_base and /var/run/aesmd/aesm.socket UNIX sockets).\n" +
	"Please check its status! (`service aesmd status` on Ubuntu)"

// warn is the box of libos/src/utils/warn.c, for what of it a manifest of ours may have.
func warn(text []byte) {
	var found []string
	for key, line := range map[string]string{
		"\nallowed_files =": "  - sgx.allowed_files = [ ... ]                (some files are passed through from untrusted host without verification)",
		"\ndebug = true":    "  - sgx.debug = true                           (this is a debug enclave)",
	} {
		if strings.Contains(string(text), key) {
			found = append(found, line)
		}
	}
	if len(found) > 0 {
		slices.Sort(found)
		bar := strings.Repeat("-", 119)
		say("%s\nGramine detected the following insecure configurations:\n\n%s\n\nGramine will continue application execution, but this configuration must not be used in production!\n%s\n", bar, strings.Join(found, "\n"), bar)
	}
}

// mount fills the root of the enclave: libos/src/fs/libos_fs.c, and chroot/fs.c below it. A
// trusted file is hashed when it is mounted. One that is neither trusted nor allowed is
// there, and nobody can open it.
func (e *enclave) mount(m *rig.Machine) error {
	if e.manifest.FS.Root.Type != "tmpfs" {
		return fmt.Errorf("the root of the enclave is %q: the rig has tmpfs alone, and the folder of the host is no root for an enclave", e.manifest.FS.Root.Type)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot leave the mounts of the host: %w", err)
	}
	if err := unix.Mount("enclave", m.Root(), "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("cannot mount tmpfs: %w", err)
	}
	for _, one := range e.manifest.FS.Mounts {
		if err := e.mountOne(m, one); err != nil {
			return err
		}
	}
	return nil
}

func (e *enclave) mountOne(m *rig.Machine, one rig.Mount) error {
	file, isFile := strings.CutPrefix(one.URI, "file:")
	if !isFile || one.Type != "" && one.Type != "chroot" {
		return fmt.Errorf("the rig mounts files alone, not %q as %q", one.URI, one.Type)
	}
	failed := func(why string) error {
		return refused{fmt.Sprintf("[P1:T1:] error: Mounting %q (chroot) under %s failed: %s", one.URI, one.Path, why)}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return failed(eNOENT)
	}
	mode := os.FileMode(0)
	if slices.Contains(e.manifest.SGX.Allowed, one.URI) {
		mode = 0o555
	}
	if i := slices.IndexFunc(e.manifest.SGX.Trusted, func(t rig.Trusted) bool { return t.URI == one.URI }); i >= 0 {
		mode = 0o555
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != e.manifest.SGX.Trusted[i].SHA256 {
			return failed(ePERM)
		}
	}
	at := filepath.Join(m.Root(), one.Path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, data, 0o600)); err != nil {
		return err
	}
	return os.Chmod(at, mode)
}

// attestation mounts the files of /dev/attestation, and serves them.
func (e *enclave) attestation(m *rig.Machine, at string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", dev, os.Getuid(), os.Getgid())
	if err := unix.Mount("gramine", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("cannot mount a file system of FUSE: %w", err)
	}
	go func() {
		if err := fuse.Serve(dev, device(m.Dir, m, e)); err != nil {
			os.Exit(ill(err))
		}
	}()
	return nil
}

// plan is what enter does.
type plan struct {
	Root, Program string
	Argv, Env     []string
	NoFork        bool
}

// run runs the program, and returns its exit status.
func (e *enclave) run(m *rig.Machine, term *os.File) int {
	if err := e.attestation(m, filepath.Join(m.Root(), "dev", "attestation")); err != nil {
		return ill(err)
	}
	p := plan{Root: m.Root(), Program: e.manifest.LibOS.Entrypoint, Argv: e.manifest.Loader.Argv, Env: environment(e.manifest.Loader.Env), NoFork: e.manifest.Sys.NoSubprocesses}
	encoded, err := json.Marshal(p)
	if err != nil {
		return ill(err)
	}
	cmd := exec.Command("/proc/self/exe", "enter", m.Dir, string(encoded))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout // both: pal/src/host/linux-sgx/pal_console.c
	cmd.ExtraFiles = []*os.File{os.Stderr}
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return ill(err)
	}
	go func() {
		if n, _ := term.Read(make([]byte, 1)); n == 1 && e.manifest.Sys.SIGTERM {
			cmd.Process.Signal(unix.SIGTERM)
		}
	}()
	return status(cmd.Wait())
}

// environment is what the program gets of loader.env.
func environment(env map[string]any) (list []string) {
	for name, value := range env {
		if table, ok := value.(map[string]any); ok {
			value = table["value"]
			if table["passthrough"] == true {
				text, set := os.LookupEnv(name)
				if !set {
					continue
				}
				value = text
			}
		}
		list = append(list, fmt.Sprintf("%s=%v", name, value))
	}
	slices.Sort(list)
	return list
}
