package yubihsm

import (
	"fmt"
	"strings"
)

// Open returns the transport to an address:
//
//	http://127.0.0.1:12345  yubihsm-connector, also https; see [NewConnector]
//	usb://0123456789        the device with this serial number, on the USB of Linux
//	usb://                  the only YubiHSM 2 on the USB
//
// Nothing is sent yet, and the device need not be there.
func Open(address string) (Transport, error) {
	if serial, ok := strings.CutPrefix(address, "usb://"); ok {
		return openUSB(serial)
	}
	if strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") {
		return NewConnector(address)
	}
	return nil, fmt.Errorf("%.100q is not an address of a YubiHSM, which is http://HOST:PORT or usb://SERIAL", address)
}
