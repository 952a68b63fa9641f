package yubihsm

import (
	"errors"
	"fmt"
)

// ErrorCode is why a device refuses a command.
type ErrorCode byte

// Error codes (yubihsm.h).
const (
	InvalidCommand           ErrorCode = 0x01
	InvalidData              ErrorCode = 0x02
	InvalidSession           ErrorCode = 0x03 // the session is gone: it idled out, or the device restarted
	AuthenticationFailed     ErrorCode = 0x04 // a cryptogram or MAC of ours was wrong
	SessionsFull             ErrorCode = 0x05 // all 16 sessions are taken
	SessionFailed            ErrorCode = 0x06
	StorageFailed            ErrorCode = 0x07
	WrongLength              ErrorCode = 0x08
	InsufficientPermissions  ErrorCode = 0x09 // a capability or a domain is missing
	LogFull                  ErrorCode = 0x0a // the log is full, and force-audit is on
	ObjectNotFound           ErrorCode = 0x0b // or not in a domain of ours
	InvalidID                ErrorCode = 0x0c
	SSHCAConstraintViolation ErrorCode = 0x0e
	InvalidOTP               ErrorCode = 0x0f
	DemoMode                 ErrorCode = 0x10
	ObjectExists             ErrorCode = 0x11
	AlgorithmDisabled        ErrorCode = 0x12
	CommandUnexecuted        ErrorCode = 0xff
)

var errorCodes = map[ErrorCode]string{
	InvalidCommand: "invalid command", InvalidData: "invalid data", InvalidSession: "invalid session",
	AuthenticationFailed: "authentication failed", SessionsFull: "all sessions are in use", SessionFailed: "cannot create a session",
	StorageFailed: "storage failure", WrongLength: "wrong length", InsufficientPermissions: "insufficient permissions",
	LogFull: "the log is full", ObjectNotFound: "object not found", InvalidID: "invalid id",
	SSHCAConstraintViolation: "violation of an SSH CA constraint", InvalidOTP: "invalid OTP",
	DemoMode: "demo mode: the device needs a power cycle", ObjectExists: "there is an object with this id",
	AlgorithmDisabled: "the algorithm is disabled", CommandUnexecuted: "command not executed",
}

// String returns the code in words, or as a number.
func (c ErrorCode) String() string {
	if text, ok := errorCodes[c]; ok {
		return text
	}
	return fmt.Sprintf("error 0x%02x", byte(c))
}

// DeviceError is a command that the device refused. If it comes from a method of a session
// and not within a [*SessionError], the session proved that the device said so, the command
// was not carried out, and the session goes on. Otherwise anybody on the way may have said so.
type DeviceError struct {
	Command Command
	Code    ErrorCode
}

// Error implements error.
func (e *DeviceError) Error() string {
	return fmt.Sprintf("the YubiHSM refuses %v: %v (0x%02x)", e.Command, e.Code, byte(e.Code))
}

// SessionError says that a session is over, and why. Whether the command that ended it was
// carried out is not known. The session is never closed on the device: its id may belong
// to somebody else by now.
type SessionError struct{ Cause error }

// Error implements error.
func (e *SessionError) Error() string {
	return "the session with the YubiHSM ended: " + e.Cause.Error()
}

// Unwrap returns why the session is over.
func (e *SessionError) Unwrap() error { return e.Cause }

// TooLongError is a command that does not fit into the message buffer of the device. It was
// not sent, and the session goes on.
type TooLongError struct {
	Command     Command
	Have, Limit int // bytes of the command's data, and how many fit
}

// Error implements error.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("%v does not fit into the message buffer of the YubiHSM: %d bytes, and %d fit", e.Command, e.Have, e.Limit)
}

var (
	// ErrWrongKey is a cryptogram of the device that our authentication key does not make:
	// the password is wrong, or it is not the device.
	ErrWrongKey = errors.New("the authentication key of the YubiHSM is another one: wrong password")
	// ErrClosed is the cause of a [*SessionError] after Close and ResetDevice.
	ErrClosed = errors.New("it was closed")
	// ErrBadMAC is an answer that was changed on its way, or does not belong to our command.
	ErrBadMAC = errors.New("an answer has a wrong MAC")
	// ErrMalformed is an answer that does not have the form that the guide gives it.
	ErrMalformed = errors.New("an answer is malformed")
)

// malformed returns an ErrMalformed that says what is wrong.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
