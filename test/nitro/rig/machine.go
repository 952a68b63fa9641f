package rig

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what Start boots.
type Config struct {
	// Image is the enclave image, whole.
	Image []byte
	// Dir is the folder for the machine's files and sockets, see NewDir.
	Dir string
	// Sockets is the folder with the unix sockets of vsock, named as in
	// internal/vsock: vsock-CID and vsock-CID_PORT. Empty means Dir.
	Sockets string
	// Root signs the documents; nil leaves the security module out.
	Root *Root
	// CID of the enclave; 0 means 16.
	CID uint32
	// MemoryMiB of the guest; 0 means 64, the least that Nitro gives.
	MemoryMiB int
	// CPUs of the guest; 0 means 1.
	CPUs int
	// Role and Instance are what PCR3 and PCR4 are made of: the ARN of the
	// instance's role and the instance's id. Empty leaves the register zero.
	Role, Instance string
	// Debug makes PCR0, 1, 2 and 8 zero, as a start in debug mode does.
	Debug bool
	// QEMUReads leaves it to QEMU's machine nitro-enclave (scripts/setup qemu-nitro)
	// to read and measure the image, and to play the security module, which does not
	// sign there. Root, Debug and Now are not used then.
	QEMUReads bool
	// ACPI describes the machine by ACPI's tables. Otherwise its devices stand on the
	// command line, and on arm64 in a device tree. On arm64 it is booted by EFI then,
	// which needs 256 MiB.
	ACPI bool
	// Append goes after the image's command line, unmeasured, as the hypervisor's
	// own words do.
	Append string
	// Now is the security module's clock; nil means time.Now.
	Now func() time.Time
	// Tap, if set, sees every payload that leaves the guest over vsock.
	Tap func(port uint32, payload []byte)
	// Console, if set, gets what the guest writes to its console, as it comes.
	Console io.Writer
	// Stderr gets QEMU's own words; nil means that they are in Err's.
	Stderr io.Writer
}

// Limits of a boot. Emulated, on a busy machine, the first line of the program can
// take six seconds.
const (
	bootLimit     = 10 * time.Minute
	heartbeatPort = 9000
	heartbeat     = 0xb7
)

// Machine is an enclave that runs.
type Machine struct {
	// PCRs are the registers 0 to 4 and 8 as measured at the start.
	PCRs map[int][48]byte
	// ModuleID is the security module's name.
	ModuleID string

	started time.Time
	cmd     *exec.Cmd
	console console
	stderr  lockedBuffer
	beat    chan struct{}
	beatAt  time.Time
	done    chan struct{}
	err     error
	serving sync.WaitGroup
	closers []io.Closer
	vsock   *vsockDevice
	base    string
}

// Start boots an image, and returns as soon as QEMU runs.
func Start(c Config) (*Machine, error) {
	im, err := readImage(c.Image)
	if err != nil {
		return nil, err
	}
	c = c.withDefaults()
	m := &Machine{
		PCRs:     c.registers(im),
		ModuleID: fmt.Sprintf("%s-enc%016x", c.Instance, time.Now().UnixNano()),
		beat:     make(chan struct{}),
		done:     make(chan struct{}),
		base:     filepath.Join(c.Sockets, fmt.Sprintf("vsock-%d", c.CID)),
	}
	m.console.changed = make(chan struct{})
	m.console.also = c.Console
	if err := m.start(c, im); err != nil {
		m.closeAll()
		return nil, err
	}
	return m, nil
}

func (c Config) withDefaults() Config {
	if c.Sockets == "" {
		c.Sockets = c.Dir
	}
	if c.CID == 0 {
		c.CID = 16
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) registers(im *image) map[int]pcr {
	pcrs := im.measure()
	if c.Debug {
		pcrs = map[int]pcr{0: {}, 1: {}, 2: {}, 8: {}}
	}
	for i, text := range map[int]string{3: c.Role, 4: c.Instance} {
		pcrs[i] = pcr{}
		if text != "" {
			pcrs[i] = extend(pcr{}, []byte(text))
		}
	}
	return pcrs
}

func (m *Machine) start(c Config, im *image) error {
	find, arguments := QEMU, m.arguments
	switch {
	case c.QEMUReads:
		find, arguments = QEMUNitro, m.nitroArguments
	case im.arm64:
		find = QEMUARM64
	}
	qemu, err := find()
	if err != nil {
		return err
	}
	m.vsock = newVsockDevice(c.CID, m.base)
	m.vsock.tap = c.Tap
	args, err := arguments(c, im)
	if err != nil {
		return err
	}
	if err := m.listen(c); err != nil {
		return err
	}
	m.cmd = exec.Command(qemu, args...)
	m.cmd.Stdout = &m.console
	m.cmd.Stderr = &m.stderr
	if c.Stderr != nil {
		m.cmd.Stderr = c.Stderr
	}
	// In a group of its own, so that a Ctrl-C at the test is not one at QEMU; and
	// never longer there than the test.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	m.started = time.Now()
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start QEMU: %w", err)
	}
	go m.wait()
	return nil
}

// arguments of QEMU. Without ACPI the guest finds its devices on the kernel's command
// line, or in a device tree (arm64). None is on PCI.
func (m *Machine) arguments(c Config, im *image) ([]string, error) {
	kernel, initrd := filepath.Join(c.Dir, "kernel"), filepath.Join(c.Dir, "initrd")
	if err := os.WriteFile(kernel, im.kernel, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(initrd, bytes.Join(im.ramdisks, nil), 0o600); err != nil {
		return nil, err
	}
	machine, words := amd64Machine(c), appended(c)
	if im.arm64 {
		var err error
		if machine, err = arm64Machine(c); err != nil {
			return nil, err
		}
		words = strings.TrimSpace("console=ttyAMA0 " + c.Append)
	}
	args := append(append(commonArguments(c), machine...),
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", c.MemoryMiB),
		"-device", "vhost-user-vsock-device,chardev=vsock",
		"-kernel", kernel, "-initrd", initrd, "-append", string(im.cmdline)+" "+words,
	)
	if c.Root != nil {
		args = append(args,
			"-chardev", "socket,id=nsm,path="+filepath.Join(c.Dir, "nsm.vhu"),
			"-device", "vhost-user-test-device,chardev=nsm,virtio-id=33,num_vqs=1,vq_size=2")
	}
	return args, nil
}

func amd64Machine(c Config) []string {
	acpi := "off"
	if c.ACPI {
		acpi = "on"
	}
	return append(qboot(), "-M", "microvm,memory-backend=mem,x-option-roms=off,pcie=off,acpi="+acpi)
}

// arm64Machine has the core of Graviton2. The console is no 16550A, as it is on Nitro: this
// machine has none.
func arm64Machine(c Config) ([]string, error) {
	args := []string{"-cpu", "neoverse-n1", "-global", "virtio-mmio.force-legacy=false"}
	const machine = "virt,memory-backend=mem,gic-version=3,acpi="
	if !c.ACPI {
		return append(args, "-M", machine+"off"), nil
	}
	efi, err := firmware()
	return append(args, "-M", machine+"on", "-bios", efi), err
}

func commonArguments(c Config) []string {
	return []string{
		"-accel", "tcg,thread=multi", "-smp", strconv.Itoa(max(c.CPUs, 1)), "-m", strconv.Itoa(c.MemoryMiB),
		"-no-reboot", "-nodefaults", "-display", "none", "-serial", "stdio",
		"-chardev", "socket,id=vsock,path=" + filepath.Join(c.Dir, "vsock.vhu"),
	}
}

// qboot is the firmware of the machines of amd64.
func qboot() []string { return []string{"-bios", "qboot.rom", "-cpu", "max"} }

// nitroArguments have QEMU read the image.
func (m *Machine) nitroArguments(c Config, _ *image) ([]string, error) {
	path := filepath.Join(c.Dir, "image.eif")
	if err := os.WriteFile(path, c.Image, 0o600); err != nil {
		return nil, err
	}
	machine := "nitro-enclave,vsock=vsock,id=" + m.ModuleID
	if c.Role != "" {
		machine += ",parent-role=" + c.Role
	}
	if c.Instance != "" {
		machine += ",parent-id=" + c.Instance
	}
	return append(append(commonArguments(c), qboot()...), "-M", machine, "-kernel", path, "-append", appended(c)), nil
}

// appended comes after the image's command line. The machine has no keyboard
// controller to reset it: reboot=t. And a busy host makes the kernel fail to
// measure its clock: tsc_early_khz.
func appended(c Config) string {
	return strings.TrimSpace("reboot=t " + tscHint() + c.Append)
}

var mhz = regexp.MustCompile(`(?m)^cpu MHz\s*: (\d+)\.(\d{3})`)

// tscHint shows the guest how fast its time stamp counter runs, which is this
// machine's: the emulator passes it through.
func tscHint() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	f := mhz.FindSubmatch(info)
	if f == nil {
		return ""
	}
	return fmt.Sprintf("tsc_early_khz=%s%s ", f[1], f[2])
}

// listen opens all sockets before QEMU or the guest look for them.
func (m *Machine) listen(c Config) error {
	vhost, err := m.listenUnix(filepath.Join(c.Dir, "vsock.vhu"))
	if err != nil {
		return err
	}
	m.serving.Go(func() { serve(vhost, m.vsock, 3) })
	host, err := m.listenUnix(m.base)
	if err != nil {
		return err
	}
	m.serving.Go(func() { m.vsock.serveHost(host) })
	beats, err := m.listenUnix(fmt.Sprintf("%s_%d", m.base, heartbeatPort))
	if err != nil {
		return err
	}
	m.serving.Go(func() { m.awaitHeartbeat(beats) })
	if c.Root == nil || c.QEMUReads {
		return nil
	}
	nsm, err := newNSM(c.Root, m.ModuleID, m.PCRs, c.Now)
	if err != nil {
		return err
	}
	l, err := m.listenUnix(filepath.Join(c.Dir, "nsm.vhu"))
	if err != nil {
		return err
	}
	m.serving.Go(func() { serve(l, nsm, 1) })
	return nil
}

func (m *Machine) listenUnix(path string) (*net.UnixListener, error) {
	// What a machine before this one left behind.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	m.closers = append(m.closers, l)
	return l.(*net.UnixListener), nil
}

// awaitHeartbeat answers the byte by which an enclave says that it has started.
func (m *Machine) awaitHeartbeat(l *net.UnixListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err == nil && b[0] == heartbeat {
			c.Write(b[:])
			select {
			case <-m.beat:
			default:
				m.beatAt = time.Now()
				close(m.beat)
			}
		}
		c.Close()
	}
}

func (m *Machine) wait() {
	err := m.cmd.Wait()
	if words := strings.TrimSpace(m.stderr.String()); words != "" {
		err = errors.Join(err, errors.New(words))
	}
	m.err = err
	m.closeAll()
	close(m.done)
}

func (m *Machine) closeAll() {
	for _, c := range m.closers {
		c.Close()
	}
	if m.vsock != nil {
		m.vsock.stop()
	}
	m.serving.Wait()
}

// Base returns the path of the monitor's socket, where the host dials.
func (m *Machine) Base() string { return m.base }

// Pid returns QEMU's.
func (m *Machine) Pid() int { return m.cmd.Process.Pid }

// Done is closed when the enclave has ended and all its sockets are gone.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Err says how QEMU ended, after Done: nil if the guest ended by itself.
func (m *Machine) Err() error {
	<-m.done
	return m.err
}

// Kill ends the enclave at once and waits until it is gone.
func (m *Machine) Kill() {
	syscall.Kill(-m.Pid(), syscall.SIGKILL)
	<-m.done
}

// Heartbeat waits until the enclave has said that it started, and returns how
// long that took. It fails when the enclave has ended, or after 60 seconds.
func (m *Machine) Heartbeat(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithDeadline(ctx, m.started.Add(bootLimit))
	defer cancel()
	select {
	case <-m.beat:
		return m.beatAt.Sub(m.started), nil
	case <-m.done:
		return 0, fmt.Errorf("the enclave ended without a heartbeat: %w\n%s", m.endError(), m.console.tail())
	case <-ctx.Done():
		return 0, fmt.Errorf("no heartbeat: %w\n%s", ctx.Err(), m.console.tail())
	}
}

func (m *Machine) endError() error {
	if m.err != nil {
		return m.err
	}
	return errors.New("it rebooted")
}

// Console returns all that the guest has written to its console.
func (m *Machine) Console() string { return m.console.String() }

// CopyConsole copies that to w, until the machine has ended or w fails.
func (m *Machine) CopyConsole(w io.Writer) error {
	shown := 0
	for {
		all, changed := m.console.look()
		if _, err := io.WriteString(w, all[shown:]); err != nil {
			return err
		}
		shown = len(all)
		select {
		case <-changed:
		case <-m.done:
			all, _ := m.console.look()
			_, err := io.WriteString(w, all[shown:])
			return err
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// console keeps what the guest writes, and wakes those who wait for more.
type console struct {
	mu      sync.Mutex
	all     bytes.Buffer
	changed chan struct{}
	also    io.Writer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.Write(p)
	close(c.changed)
	c.changed = make(chan struct{})
	if c.also != nil {
		return c.also.Write(p)
	}
	return len(p), nil
}

func (c *console) look() (all string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.String(), c.changed
}

func (c *console) String() string {
	all, _ := c.look()
	return all
}

// tail returns the last lines, for errors.
func (c *console) tail() string {
	const lines = 30
	var last []string
	s := bufio.NewScanner(strings.NewReader(c.String()))
	for s.Scan() {
		last = append(last, "console: "+s.Text())
	}
	return strings.Join(last[max(0, len(last)-lines):], "\n")
}
