//go:build !linux

package yubihsm

import "errors"

var errNoUSB = errors.New("a YubiHSM on the USB is used on Linux only: take a connector, http://HOST:PORT")

// DetectUSB returns the serial numbers of the devices on the USB, on Linux.
func DetectUSB() ([]uint32, error) { return nil, errNoUSB }

func openUSB(serial string) (Transport, error) {
	return newUSB(serial, func(string) (pipe, error) { return nil, errNoUSB })
}
