package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// pipe is a device on the USB that this program has for itself. Its calls return after the
// timeout, with ETIMEDOUT.
type pipe interface {
	Write(message []byte, timeout time.Duration) error
	Read(buffer []byte, timeout time.Duration) (int, error)
	Close() error
}

// usb is the transport to a device on the USB. The device is opened when something is to be
// sent, and again after each error.
type usb struct {
	serial string // of 10 digits; "" for the only one
	open   func(serial string) (pipe, error)

	turn chan struct{} // holds an element while what is below is in use
	pipe pipe          // nil: not open
	owed bool          // the device got a message, and its answer was not read
	over bool
}

// newUSB returns the transport to the device with a serial number, or to the only device.
func newUSB(serial string, open func(string) (pipe, error)) (*usb, error) {
	if serial != "" {
		n, err := strconv.ParseUint(serial, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%.100q is not a serial number of a YubiHSM, which has up to 10 digits", serial)
		}
		serial = fmt.Sprintf("%010d", n)
	}
	return &usb{serial: serial, open: open, turn: make(chan struct{}, 1)}, nil
}

// Waits on the USB.
const (
	usbSlice = 250 * time.Millisecond // a context that ends is noticed within
	usbStale = 10 * time.Millisecond  // for what is left in the device's buffer
	usbOwed  = 500 * time.Millisecond // for the answer to a message whose sender went away
)

// usbBuffer is longer than any answer, and a multiple of all sizes of packets.
const usbBuffer = 4096

// Exchange implements [Transport]. Errors are a [*USBError].
func (u *usb) Exchange(ctx context.Context, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return nil, &USBError{u.serial, context.Cause(ctx)}
	}
	if u.over {
		return nil, &USBError{u.serial, os.ErrClosed}
	}
	answer, err := u.exchange(ctx, message)
	if err != nil {
		u.drop()
		return nil, &USBError{u.serial, err}
	}
	return answer, nil
}

func (u *usb) exchange(ctx context.Context, message []byte) ([]byte, error) {
	if err := u.ready(ctx, bytes.HasPrefix(message, []byte{byte(CommandCreateSession)})); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	u.owed = true
	if err := u.pipe.Write(message, usbSlice); err != nil {
		return nil, err
	}
	buffer := make([]byte, usbBuffer)
	for {
		slice := usbSlice
		if end, ok := ctx.Deadline(); ok {
			slice = min(slice, max(time.Until(end), time.Millisecond))
		}
		n, err := u.pipe.Read(buffer, slice)
		switch {
		case errors.Is(err, syscall.ETIMEDOUT) && ctx.Err() == nil:
			continue
		case errors.Is(err, syscall.ETIMEDOUT):
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, err
		case n == 0:
			continue // the empty packet after an answer
		case n > MaxMessage:
			return nil, malformed("%d bytes", n)
		case buffer[0] != message[0]|answerFlag && buffer[0] != byte(errorAnswer):
			return nil, malformed("0x%02x does not answer %v", buffer[0], Command(message[0])) // ours is yet to come
		}
		u.owed = false
		return buffer[:n:n], nil
	}
}

// ready opens the device, and takes from it what was meant for others. isFirst says that a
// session begins, on a device that may be open: an answer that came too late for somebody
// else has broken the session before, and each answer since is that to the message before.
func (u *usb) ready(ctx context.Context, isFirst bool) (err error) {
	if u.pipe != nil && !isFirst {
		return nil
	}
	if u.pipe == nil {
		pipe, err := u.open(u.serial)
		if err != nil {
			return err
		}
		u.pipe = pipe
	}
	buffer := make([]byte, usbBuffer)
	wait := usbStale
	if u.owed {
		wait = usbOwed
	}
	for ctx.Err() == nil {
		if _, err = u.pipe.Read(buffer, wait); err != nil {
			break
		}
		wait = usbStale
	}
	if errors.Is(err, syscall.ETIMEDOUT) {
		u.owed, err = false, nil
	}
	return err
}

// drop closes the device after an error: it may have been unplugged.
func (u *usb) drop() {
	if u.pipe != nil {
		u.pipe.Close()
		u.pipe = nil
	}
}

// Close implements [Transport]. It waits for an Exchange that is under way.
func (u *usb) Close() error {
	u.turn <- struct{}{}
	defer func() { <-u.turn }()
	u.over = true
	u.drop()
	return nil
}

// String returns the address.
func (u *usb) String() string { return "usb://" + u.serial }

// USBError is a message that did not reach a device on the USB, or whose answer did not come.
// Cause is the system's error, as in errors.Is(err, syscall.EBUSY), or that of the context.
type USBError struct {
	Serial string // of 10 digits, "" for any
	Cause  error
}

// ErrNoDevice is the cause of a [*USBError] where no such device is plugged in.
var ErrNoDevice = errors.New("it is not plugged in")

// Error says what failed, and for some causes what to do, on a line of its own.
func (e *USBError) Error() string {
	name := "the YubiHSM " + e.Serial
	if e.Serial == "" {
		name = "the YubiHSM"
	}
	switch {
	case errors.Is(e.Cause, syscall.EBUSY):
		return name + " is in use by another program: yubihsm-connector, or another signer"
	case errors.Is(e.Cause, syscall.EACCES), errors.Is(e.Cause, syscall.EPERM):
		return fmt.Sprintf("no right to use %s on the USB; plug it in again after\n`%s`", name, udevCommand())
	case errors.Is(e.Cause, syscall.ENODEV), errors.Is(e.Cause, syscall.ENOENT), errors.Is(e.Cause, syscall.ESHUTDOWN), errors.Is(e.Cause, ErrNoDevice):
		return name + " is not plugged in"
	}
	return fmt.Sprintf("no answer from %s on the USB: %s", name, why(e.Cause))
}

// Unwrap returns the cause.
func (e *USBError) Unwrap() error { return e.Cause }

// udevCommand returns the command by which devices belong to the user of this program.
func udevCommand() string {
	owner := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		owner = u.Username
	}
	rule := fmt.Sprintf(`SUBSYSTEM=="usb", ATTR{idVendor}=="1050", ATTR{idProduct}=="0030", OWNER="%s", MODE="0600"`, owner)
	return "echo '" + rule + "' | sudo tee /etc/udev/rules.d/70-yubihsm.rules && sudo udevadm control --reload"
}
