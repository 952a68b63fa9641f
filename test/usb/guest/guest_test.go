//go:build linux && amd64

// Package guest is the first process of a machine that has a YubiHSM 2 plugged into its
// own USB: the simulator behind the kernel's FunctionFS, on the controller dummy_hcd. What
// it tests is the path from our client through the kernel and back.
package guest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

// modules are loaded in this order, each after those that it needs.
var modules = []string{"usb-common", "usbcore", "udc-core", "configfs", "libcomposite", "usb_f_fs", "dummy_hcd"}

const gadget = "/cfg/usb_gadget/hsm"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getpid() != 1 {
		fmt.Println("it is the first process of a machine; test/usb starts one")
		os.Exit(0)
	}
	status := 1
	if err := boot(); err != nil {
		fmt.Println("guest:", err)
	} else {
		status = m.Run()
	}
	fmt.Printf("guest: status %d\n", status)
	syscall.Sync()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART) // which ends a QEMU that does not reboot
}

// boot mounts file systems, brings up loopback, loads modules, and makes the gadget.
func boot() error {
	flag.Set("test.v", "true")
	for _, m := range [][3]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}} {
		os.MkdirAll(m[1], 0o755)
		if err := syscall.Mount("none", m[1], m[0], 0, ""); err != nil && !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	for _, name := range modules {
		parameters := ""
		if name == "dummy_hcd" {
			parameters = "is_high_speed=0" // packets of 64 bytes, as the device has them
		}
		if err := load("/"+name+".ko", parameters); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	os.MkdirAll("/cfg", 0o755)
	if err := syscall.Mount("none", "/cfg", "configfs", 0, ""); err != nil {
		return fmt.Errorf("configfs: %w", err)
	}
	return describe()
}

// loopback brings up lo, which the simulator's connector listens on.
func loopback() error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	var request [40]byte // struct ifreq
	copy(request[:], "lo")
	binary.NativeEndian.PutUint16(request[16:], syscall.IFF_UP|syscall.IFF_RUNNING)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

func load(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	p, _ := syscall.BytePtrFromString(parameters)
	const finitModule = 313 // amd64
	if _, _, errno := syscall.Syscall(finitModule, f.Fd(), uintptr(unsafe.Pointer(p)), 0); errno != 0 {
		return errno
	}
	return nil
}

// describe makes a gadget with the numbers of a YubiHSM 2 and one function.
func describe() error {
	for _, folder := range []string{gadget, gadget + "/strings/0x409", gadget + "/configs/c.1", gadget + "/functions/ffs.hsm"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	for file, text := range map[string]string{"idVendor": "0x1050", "idProduct": "0x0030", "strings/0x409/serialnumber": "0007550054", "strings/0x409/product": "YubiHSM"} {
		if err := os.WriteFile(filepath.Join(gadget, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink(gadget+"/functions/ffs.hsm", gadget+"/configs/c.1/ffs.hsm"); err != nil {
		return err
	}
	os.MkdirAll("/ffs", 0o755)
	if err := syscall.Mount("hsm", "/ffs", "functionfs", 0, ""); err != nil {
		return fmt.Errorf("functionfs: %w", err)
	}
	return nil
}

// device is the simulator on the USB.
type device struct {
	*yubihsmtest.Device
	t *testing.T
}

// socket is where devices are plugged in. FunctionFS takes one description.
var socket struct {
	sync.Once
	err     error
	in, out int
	device  atomic.Pointer[yubihsmtest.Device]
}

// newDevice plugs in a simulator.
func newDevice(t *testing.T) *device {
	t.Helper()
	return plugIn(t, yubihsmtest.Options{})
}

// plugIn plugs in a simulator with options.
func plugIn(t *testing.T, options yubihsmtest.Options) *device {
	t.Helper()
	socket.Do(func() { socket.err = openSocket() })
	if socket.err != nil {
		t.Fatal(socket.err)
	}
	options.Serial = 7550054
	d := &device{yubihsmtest.New(t, options), t}
	socket.device.Store(d.Device)
	d.plug()
	t.Cleanup(func() {
		d.Heal()
		d.unplug()
	})
	return d
}

// openSocket describes the interface to FunctionFS, and serves it.
func openSocket() error {
	le := binary.LittleEndian
	interfaceAndEndpoints := []byte{9, 4, 0, 0, 2, 0xff, 0, 0, 1, 7, 5, 1, 2, 64, 0, 0, 7, 5, 0x81, 2, 64, 0, 0}
	descriptors := le.AppendUint32(nil, 3) // FUNCTIONFS_DESCRIPTORS_MAGIC_V2
	descriptors = le.AppendUint32(descriptors, uint32(16+len(interfaceAndEndpoints)))
	descriptors = le.AppendUint32(descriptors, 1) // full speed
	descriptors = le.AppendUint32(descriptors, 3) // descriptors
	text := append(le.AppendUint16(nil, 0x409), "YubiHSM\x00"...)
	names := le.AppendUint32(nil, 2) // FUNCTIONFS_STRINGS_MAGIC
	for _, n := range []int{16 + len(text), 1, 1} {
		names = le.AppendUint32(names, uint32(n))
	}
	open := func(name string) (fd int, err error) {
		return syscall.Open("/ffs/"+name, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	}
	control, err := open("ep0")
	if err != nil {
		return err
	}
	for _, b := range [][]byte{append(descriptors, interfaceAndEndpoints...), append(names, text...)} {
		if n, err := syscall.Write(control, b); err != nil || n != len(b) {
			return fmt.Errorf("FunctionFS takes %d of %d bytes: %w", n, len(b), err)
		}
	}
	if socket.out, err = open("ep1"); err != nil {
		return err
	}
	if socket.in, err = open("ep2"); err != nil {
		return err
	}
	go serve()
	return nil
}

// serve answers. While nothing is plugged in, reads wait or fail.
func serve() {
	buffer := make([]byte, 4096)
	for {
		n, err := syscall.Read(socket.out, buffer)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		answer, ok := socket.device.Load().Exchange(bytes.Clone(buffer[:n]))
		if !ok {
			continue
		}
		syscall.Write(socket.in, answer)
		if len(answer)%64 == 0 {
			syscall.Write(socket.in, nil)
		}
	}
}

func (d *device) plug() {
	d.t.Helper()
	if err := os.WriteFile(gadget+"/UDC", []byte("dummy_udc.0"), 0o644); err != nil {
		d.t.Fatal(err)
	}
	// The kernel finds it in its own time.
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		serials, err := yubihsm.DetectUSB()
		if err == nil && slices.Equal(serials, []uint32{7550054}) {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("the kernel does not find the device: %v, %v", serials, err)
		}
	}
}

func (d *device) unplug() {
	d.t.Helper()
	if err := os.WriteFile(gadget+"/UDC", []byte("\n"), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func openTransport(t *testing.T, address string) yubihsm.Transport {
	t.Helper()
	transport, err := yubihsm.Open(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { transport.Close() })
	return transport
}

func TestUSB(t *testing.T) {
	d := newDevice(t)
	public := d.ProvisionEd25519(t, 1)
	transport := openTransport(t, "usb://7550054")
	info, err := yubihsm.ReadDeviceInfo(t.Context(), transport)
	if err != nil || info.Serial != 7550054 {
		t.Fatalf("%+v, %v", info, err)
	}
	s, err := yubihsm.Authenticate(t.Context(), transport, 1, yubihsm.DeriveKey([]byte("password")))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("sign", func(t *testing.T) {
		began := time.Now()
		for i := range 200 {
			message := bytes.Repeat([]byte{byte(i)}, 110)
			if signature, err := s.SignEdDSA(t.Context(), 1, message); err != nil || !ed25519.Verify(public, message, signature) {
				t.Fatalf("%d: %x, %v", i, signature, err)
			}
		}
		t.Logf("a signature takes %v", time.Since(began)/200)
	})
	t.Run("whole packets", func(t *testing.T) {
		for _, n := range []int{0, 1, 60, 61, 62, 125, 1000} {
			message := append([]byte{1, byte(n >> 8), byte(n)}, make([]byte, n)...)
			answer, err := transport.Exchange(t.Context(), message)
			if err != nil || len(answer) != n+3 || answer[0] != 0x81 {
				t.Fatalf("%d bytes: %x, %v", n, answer, err)
			}
		}
		if _, err := s.DeviceInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Echo(t.Context(), make([]byte, 3116)); err != nil {
			t.Error(err)
		}
	})
	t.Run("in use", func(t *testing.T) {
		var failed *yubihsm.USBError
		_, err := yubihsm.ReadDeviceInfo(t.Context(), openTransport(t, "usb://"))
		if !errors.As(err, &failed) || !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%v", err)
		}
		t.Log(err)
	})
	t.Run("without rights", func(t *testing.T) {
		runtime.LockOSThread() // and this thread ends with the test
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 1000, 0, 0); errno != 0 {
			t.Fatal(errno)
		}
		_, err := yubihsm.ReadDeviceInfo(t.Context(), openTransport(t, "usb://"))
		if !errors.Is(err, syscall.EACCES) {
			t.Errorf("%v", err)
		}
		t.Log(err)
	})
}

// TestNoAnswer: a device that hangs holds its caller no longer than he says, and the late
// answer goes to nobody.
func TestNoAnswer(t *testing.T) {
	d := newDevice(t)
	transport := openTransport(t, "usb://")
	if _, err := yubihsm.ReadDeviceInfo(t.Context(), transport); err != nil {
		t.Fatal(err)
	}
	d.Next(yubihsmtest.Any, d.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := yubihsm.ReadDeviceInfo(ctx, transport); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	d.Heal()
	answer, err := transport.Exchange(t.Context(), []byte{1, 0, 1, 'x'})
	if err != nil || !bytes.Equal(answer, []byte{0x81, 0, 1, 'x'}) {
		t.Errorf("%x, %v", answer, err)
	}
}

func TestUnplugged(t *testing.T) {
	d := newDevice(t)
	transport := openTransport(t, "usb://7550054")
	if _, err := yubihsm.ReadDeviceInfo(t.Context(), transport); err != nil {
		t.Fatal(err)
	}
	d.unplug()
	_, err := yubihsm.ReadDeviceInfo(t.Context(), transport)
	var failed *yubihsm.USBError
	if !errors.As(err, &failed) {
		t.Errorf("unplugged: %v", err)
	}
	t.Log(err)
	if _, err = yubihsm.ReadDeviceInfo(t.Context(), transport); !errors.Is(err, yubihsm.ErrNoDevice) && !errors.Is(err, syscall.ENODEV) {
		t.Errorf("not there: %v", err)
	}
	d.plug()
	if info, err := yubihsm.ReadDeviceInfo(t.Context(), transport); err != nil || info.Serial != 7550054 {
		t.Errorf("back: %+v, %v", info, err)
	}
}
