package yubihsm

import (
	"errors"
	"fmt"
	"strconv"

	"privyseal/yubihsm/internal/usbfs"
)

// Of the device on the bus (yubihsm.h).
const (
	usbVendor  = 0x1050
	usbProduct = 0x0030
)

// DetectUSB returns the serial numbers of the devices on the USB. No device is asked; it
// needs no rights.
func DetectUSB() ([]uint32, error) { return detectUSB("/sys", "/dev") }

func detectUSB(sys, dev string) (serials []uint32, err error) {
	devices, err := usbfs.Find(sys, dev, usbVendor, usbProduct)
	if err != nil {
		return nil, fmt.Errorf("cannot look for a YubiHSM on the USB: %w", err)
	}
	for _, d := range devices {
		n, err := strconv.ParseUint(d.Serial, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("a YubiHSM on the USB has the serial number %.40q", d.Serial)
		}
		serials = append(serials, uint32(n))
	}
	return serials, nil
}

func openUSB(serial string) (Transport, error) {
	return newUSB(serial, func(serial string) (pipe, error) {
		d, err := chooseUSB("/sys", "/dev", serial)
		if err != nil {
			return nil, err
		}
		p, err := d.Open()
		if err != nil {
			return nil, err
		}
		return p, nil
	})
}

// chooseUSB returns the device with a serial number, or the only one.
func chooseUSB(sys, dev, serial string) (usbfs.Device, error) {
	devices, err := usbfs.Find(sys, dev, usbVendor, usbProduct)
	switch {
	case err != nil:
		return usbfs.Device{}, err
	case serial == "" && len(devices) > 1:
		return usbfs.Device{}, errors.New("there is more than one: give the serial number, usb://SERIAL")
	}
	for _, d := range devices {
		if n, err := strconv.ParseUint(d.Serial, 10, 32); serial == "" || err == nil && fmt.Sprintf("%010d", n) == serial {
			return d, nil
		}
	}
	return usbfs.Device{}, ErrNoDevice
}
