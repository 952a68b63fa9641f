package yubihsm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plug puts a device into a sysfs of the test.
func plug(t *testing.T, sys, name, serial string) {
	t.Helper()
	folder := filepath.Join(sys, "bus/usb/devices", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	descriptors := "\x09\x04\x00\x00\x02\xff\x00\x00\x00\x07\x05\x01\x02\x40\x00\x00\x07\x05\x81\x02\x40\x00\x00"
	for attribute, text := range map[string]string{"idVendor": "1050\n", "idProduct": "0030\n", "serial": serial + "\n",
		"busnum": "1\n", "devnum": strings.TrimPrefix(name, "1-") + "\n", "bConfigurationValue": "1\n", "descriptors": descriptors} {
		if err := os.WriteFile(filepath.Join(folder, attribute), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChooseUSB(t *testing.T) {
	sys := t.TempDir()
	if _, err := chooseUSB(sys, "/dev", ""); !errors.Is(err, ErrNoDevice) {
		t.Errorf("no device: %v", err)
	}
	plug(t, sys, "1-2", "0007550054")
	if d, err := chooseUSB(sys, "/dev", ""); err != nil || d.Node != "/dev/bus/usb/001/002" {
		t.Errorf("the only one: %+v, %v", d, err)
	}
	plug(t, sys, "1-3", "7550055") // without its zeros
	if _, err := chooseUSB(sys, "/dev", ""); err == nil || errors.Is(err, ErrNoDevice) {
		t.Errorf("one of two: %v", err)
	}
	if d, err := chooseUSB(sys, "/dev", "0007550055"); err != nil || d.Node != "/dev/bus/usb/001/003" {
		t.Errorf("by its number: %+v, %v", d, err)
	}
	if _, err := chooseUSB(sys, "/dev", "0000000055"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("another number: %v", err)
	}
	if serials, err := detectUSB(sys, "/dev"); err != nil || !slices.Equal(serials, []uint32{7550054, 7550055}) {
		t.Errorf("%v, %v", serials, err)
	}
	plug(t, sys, "1-4", "x")
	if _, err := detectUSB(sys, "/dev"); err == nil {
		t.Error("a device without a number is listed")
	}
}
