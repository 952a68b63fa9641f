package yubihsm

import "errors"

func openUSB(string) (Transport, error) {
	return nil, errors.New("a YubiHSM on the USB is not supported here: use the address of a connector, http://HOST:PORT")
}
