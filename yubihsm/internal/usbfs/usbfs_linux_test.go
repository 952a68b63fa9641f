package usbfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// yubihsm are the descriptors of a device as yubihsm-connector and the kernel see it: one
// interface, bulk endpoints 01 and 81 with packets of 64 bytes.
var yubihsm = bytes.Join([][]byte{
	{18, 1, 0, 2, 0, 0, 0, 64, 0x50, 0x10, 0x30, 0, 0x20, 2, 1, 2, 3, 1},
	{9, 2, 32, 0, 1, 1, 0, 0x80, 15},
	{9, 4, 0, 0, 2, 0xff, 0, 0, 0},
	{7, 5, 1, 2, 64, 0, 0},
	{7, 5, 0x81, 2, 64, 0, 0},
}, nil)

func TestDescriptors(t *testing.T) {
	d, err := parseDescriptors(yubihsm)
	if err != nil || d != (Device{In: 0x81, Out: 1, Packet: 64}) {
		t.Errorf("%+v, %v", d, err)
	}
	change := func(i int, to byte) []byte {
		b := bytes.Clone(yubihsm)
		b[i] = to
		return b
	}
	other := change(29, 3) // bInterfaceNumber
	if d, err := parseDescriptors(other); err != nil || d.Interface != 3 {
		t.Errorf("interface: %+v, %v", d, err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "one byte": yubihsm[:1], "no interface": yubihsm[:27], "no endpoint": yubihsm[:36], "one endpoint": yubihsm[:43],
		"half an endpoint": yubihsm[:48], "length 0": change(27, 0), "length 1": change(43, 1), "interrupt": change(39, 3), "both out": change(45, 2),
		"no packet": change(40, 0), "too long": change(43, 8),
	} {
		if d, err := parseDescriptors(b); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func FuzzDescriptors(f *testing.F) {
	f.Add(yubihsm)
	f.Add([]byte{9, 4, 0, 0, 0, 0, 0, 0, 0, 7, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescriptors(b)
		if err == nil && (d.In < 0x80 || d.Out >= 0x80 || d.Packet < 1 || d.Packet > 2047) {
			t.Errorf("%+v", d)
		}
	})
}

// plug puts a device into a sysfs of the test.
func plug(t *testing.T, sys, name string, attributes map[string]string) {
	t.Helper()
	folder := filepath.Join(sys, "bus/usb/devices", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for attribute, text := range attributes {
		if err := os.WriteFile(filepath.Join(folder, attribute), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	sys := t.TempDir()
	if list, err := Find(sys, "/dev", 0x1050, 0x30); err != nil || list != nil {
		t.Errorf("without USB: %+v, %v", list, err)
	}
	plug(t, sys, "usb1", map[string]string{"idVendor": "1d6b\n", "idProduct": "0002\n"})
	plug(t, sys, "1-1:1.0", map[string]string{"bInterfaceNumber": "00\n"})
	plug(t, sys, "1-2", map[string]string{"idVendor": "1050\n", "idProduct": "0407\n"})
	plug(t, sys, "1-3", map[string]string{"idVendor": "1050\n", "idProduct": "0030\n", "serial": "0007550054\n", "busnum": "1\n", "devnum": "14\n",
		"bConfigurationValue": "1\n", "descriptors": string(yubihsm)})
	plug(t, sys, "1-4", map[string]string{"idVendor": "1050\n", "idProduct": "0030\n", "serial": "0007550055\n", "busnum": "2\n", "devnum": "130\n",
		"bConfigurationValue": "\n", "descriptors": string(yubihsm)})
	plug(t, sys, "1-5", map[string]string{"idVendor": "1050\n", "idProduct": "0030\n"}) // it goes away
	list, err := Find(sys, "/dev", 0x1050, 0x30)
	want := []Device{
		{Serial: "0007550054", Node: "/dev/bus/usb/001/014", Configured: true, In: 0x81, Out: 1, Packet: 64},
		{Serial: "0007550055", Node: "/dev/bus/usb/002/130", In: 0x81, Out: 1, Packet: 64},
	}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("%+v, %v", list, err)
	}
	plug(t, sys, "1-6", map[string]string{"idVendor": "1050\n", "idProduct": "0030\n", "busnum": "1\n", "devnum": "1\n", "descriptors": "x"})
	if _, err := Find(sys, "/dev", 0x1050, 0x30); !errors.Is(err, errDescriptors) {
		t.Errorf("without descriptors: %v", err)
	}
}

// TestEmptyPacket: a transfer ends with a packet that is not full.
func TestEmptyPacket(t *testing.T) {
	for n, want := range map[int][]int{0: {0}, 1: {1}, 63: {63}, 64: {64, 0}, 65: {65}, 128: {128, 0}, 3136: {3136, 0}} {
		var sent []int
		p := &Pipe{of: Device{Out: 1, Packet: 64}, bulk: func(endpoint byte, data []byte, _ time.Duration) (int, error) {
			if endpoint != 1 {
				t.Errorf("endpoint %02x", endpoint)
			}
			sent = append(sent, len(data))
			return len(data), nil
		}}
		if err := p.Write(make([]byte, n), time.Second); err != nil || !reflect.DeepEqual(sent, want) {
			t.Errorf("%d bytes are sent as %v, %v", n, sent, err)
		}
	}
	p := &Pipe{of: Device{Out: 1, Packet: 64}, bulk: func(_ byte, data []byte, _ time.Duration) (int, error) { return len(data) - 1, nil }}
	if err := p.Write(make([]byte, 3), time.Second); !errors.Is(err, syscall.EIO) {
		t.Errorf("half a message: %v", err)
	}
}

// TestRequests holds the numbers of the ioctls against usbdevice_fs.h, as the compiler for
// amd64 and arm64 has them.
func TestRequests(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) == 8 && (bulkTransfer != 0xc0185502 || unsafe.Offsetof(transfer{}.data) != 16) || claimInterface != 0x8004550f || setConfiguration != 0x80045505 {
		t.Errorf("%x %x %x", uintptr(bulkTransfer), uintptr(claimInterface), uintptr(setConfiguration))
	}
}

// TestOpenFails: what is not a device, or not there, or not ours.
func TestOpenFails(t *testing.T) {
	node := filepath.Join(t.TempDir(), "node")
	if _, err := (Device{Node: node}).Open(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no node: %v", err)
	}
	if err := os.WriteFile(node, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, configured := range []bool{true, false} {
		if _, err := (Device{Node: node, Configured: configured}).Open(); !errors.Is(err, syscall.ENOTTY) {
			t.Errorf("a file: %v", err)
		}
	}
	file, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pipe{file: file}
	if _, err := p.transfer(1, []byte{1}, time.Second); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("a transfer to a file: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.transfer(1, nil, 0); err == nil {
		t.Error("a transfer after Close")
	}
}
