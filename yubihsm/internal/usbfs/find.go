// Package usbfs moves bytes to and from a USB device through the kernel of Linux, without
// libusb and cgo: devices are found in sysfs, and used through their node below
// /dev/bus/usb (usbdevice_fs.h). It knows nothing of what the bytes mean.
//
// The kernel is trusted, the device is not: its descriptors meet one strict decoder.
package usbfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Device is a device on the bus, with a pair of bulk endpoints.
type Device struct {
	Serial string // its string descriptor, "" if it has none
	// Node is where it is used, as in "/dev/bus/usb/001/004".
	Node string
	// Interface is the number of the one with the endpoints, and Configured says that the
	// device has a configuration.
	Interface  uint32
	Configured bool
	// In and Out are the endpoints' addresses, and Packet is the size of Out's packets.
	In, Out byte
	Packet  int
}

// limits in bytes of what is read from sysfs
const (
	maxAttribute   = 256
	maxDescriptors = 4096
)

// Find returns the devices of a vendor and product, from sysfs at sys ("/sys") with nodes
// below dev ("/dev"). A device that goes away meanwhile is left out.
func Find(sys, dev string, vendor, product uint16) ([]Device, error) {
	folder := filepath.Join(sys, "bus/usb/devices")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a machine without USB
	}
	if err != nil {
		return nil, err
	}
	var list []Device
	for _, e := range entries {
		d := filepath.Join(folder, e.Name())
		if attribute(d, "idVendor") != fmt.Sprintf("%04x", vendor) || attribute(d, "idProduct") != fmt.Sprintf("%04x", product) {
			continue
		}
		bus, err1 := strconv.ParseUint(attribute(d, "busnum"), 10, 16)
		number, err2 := strconv.ParseUint(attribute(d, "devnum"), 10, 16)
		descriptors, err3 := read(filepath.Join(d, "descriptors"), maxDescriptors)
		if errors.Join(err1, err2, err3) != nil {
			continue
		}
		found, err := parseDescriptors(descriptors)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d, err)
		}
		found.Serial = attribute(d, "serial")
		found.Configured = attribute(d, "bConfigurationValue") != ""
		found.Node = filepath.Join(dev, fmt.Sprintf("bus/usb/%03d/%03d", bus, number))
		list = append(list, found)
	}
	return list, nil
}

// attribute returns a line of sysfs, "" if there is none.
func attribute(folder, name string) string {
	text, _ := read(filepath.Join(folder, name), maxAttribute)
	return strings.TrimSpace(string(text))
}

func read(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// Types of descriptors, and what an endpoint is (USB 2.0, 9.4 and 9.6).
const (
	interfaceDescriptor = 4
	endpointDescriptor  = 5
	bulk                = 2
)

var errDescriptors = errors.New("the device's descriptors have no pair of bulk endpoints")

// parseDescriptors finds the first interface with a bulk endpoint in each direction. Each
// descriptor begins with its length and type.
func parseDescriptors(b []byte) (d Device, err error) {
	hasInterface := false
	for len(b) > 0 {
		if len(b) < 2 || b[0] < 2 || int(b[0]) > len(b) {
			return Device{}, errDescriptors
		}
		one := b[:b[0]]
		b = b[b[0]:]
		switch {
		case one[1] == interfaceDescriptor && len(one) >= 9:
			hasInterface = true
			d = Device{Interface: uint32(one[2])}
		case one[1] == endpointDescriptor && len(one) >= 7 && hasInterface && one[3]&3 == bulk:
			if address := one[2]; address&0x80 != 0 {
				d.In = address
			} else {
				d.Out, d.Packet = address, int(one[4])|int(one[5]&7)<<8
			}
		}
		if d.In != 0 && d.Out != 0 && d.Packet != 0 {
			return d, nil
		}
	}
	return Device{}, errDescriptors
}
