package yubihsm

import (
	"context"
	"encoding/binary"
	"fmt"
)

// DeviceInfo is what a device says about itself.
type DeviceInfo struct {
	// Version is the firmware's: major, minor, patch.
	Version [3]byte
	// Serial is printed on the device, with 10 digits.
	Serial uint32
	// LogSize is how many entries the log holds, LogUsed how many it has.
	LogSize, LogUsed int
	// Algorithms are those that the device supports, in its order. There may be values that
	// no document has.
	Algorithms []Algorithm
}

// MessageBuffer returns the size of the device's message buffer in bytes: 2048, and
// [MaxMessage] from firmware 2.4 on.
func (d DeviceInfo) MessageBuffer() int {
	if d.Version[0] > 2 || d.Version[0] == 2 && d.Version[1] >= 4 {
		return MaxMessage
	}
	return oldMessage
}

// String returns serial number and firmware version.
func (d DeviceInfo) String() string {
	return fmt.Sprintf("YubiHSM %010d, firmware %d.%d.%d", d.Serial, d.Version[0], d.Version[1], d.Version[2])
}

func parseDeviceInfo(answer []byte) (d DeviceInfo, err error) {
	f := fields{rest: answer}
	d.Version = [3]byte(f.bytes(3))
	d.Serial = f.uint32()
	d.LogSize, d.LogUsed = int(f.byte()), int(f.byte())
	for _, a := range f.rest {
		d.Algorithms = append(d.Algorithms, Algorithm(a))
	}
	f.rest = nil
	return d, f.done("the device's info")
}

// ReadDeviceInfo asks a device who it is, outside of a session. Nothing authenticates the
// answer.
func ReadDeviceInfo(ctx context.Context, t Transport) (DeviceInfo, error) {
	answer, err := exchange(ctx, t, CommandGetDeviceInfo, encode(CommandGetDeviceInfo, nil))
	if err != nil {
		return DeviceInfo{}, err
	}
	return parseDeviceInfo(answer)
}

// DeviceInfo asks the device who it is. From then on the session uses the whole message
// buffer of the device; until then it keeps to 2048 bytes.
func (s *Session) DeviceInfo(ctx context.Context) (DeviceInfo, error) {
	answer, err := s.Send(ctx, CommandGetDeviceInfo, nil)
	if err != nil {
		return DeviceInfo{}, err
	}
	d, err := parseDeviceInfo(answer)
	if err != nil {
		return DeviceInfo{}, err
	}
	if err := s.begin(ctx, CommandGetDeviceInfo); err != nil {
		return DeviceInfo{}, err
	}
	defer s.done()
	s.buffer = d.MessageBuffer()
	return d, nil
}

// Echo has the device return the data, and fails if it returns something else. It keeps the
// session alive.
func (s *Session) Echo(ctx context.Context, data []byte) error {
	answer, err := s.Send(ctx, CommandEcho, data)
	if err == nil && string(answer) != string(data) {
		err = malformed("echo returns other data")
	}
	return err
}

// Blink lets the device's light blink for so many seconds, 1 to 255.
func (s *Session) Blink(ctx context.Context, seconds byte) error {
	answer, err := s.Send(ctx, CommandBlinkDevice, []byte{seconds})
	return empty(CommandBlinkDevice, answer, err)
}

// PseudoRandom returns n bytes, 1 to 1024, of the device's random generator. It needs
// [GetPseudoRandom].
func (s *Session) PseudoRandom(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > maxRandom {
		return nil, fmt.Errorf("a YubiHSM gives 1 to %d random bytes, not %d", maxRandom, n)
	}
	answer, err := s.Send(ctx, CommandGetPseudoRandom, binary.BigEndian.AppendUint16(nil, uint16(n)))
	if err == nil && len(answer) != n {
		err = malformed("%d random bytes, not %d", len(answer), n)
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// maxRandom is less than fits into an answer of any device; how much does, no document says.
const maxRandom = 1024

// StorageInfo is how full a device is.
type StorageInfo struct {
	TotalRecords, FreeRecords int // objects
	TotalPages, FreePages     int
	PageSize                  int // bytes
}

func parseStorageInfo(answer []byte) (i StorageInfo, err error) {
	f := fields{rest: answer}
	for _, n := range []*int{&i.TotalRecords, &i.FreeRecords, &i.TotalPages, &i.FreePages, &i.PageSize} {
		*n = int(f.uint16())
	}
	return i, f.done("the storage info")
}

// StorageInfo asks how full the device is.
func (s *Session) StorageInfo(ctx context.Context) (StorageInfo, error) {
	answer, err := s.Send(ctx, CommandGetStorageInfo, nil)
	if err != nil {
		return StorageInfo{}, err
	}
	return parseStorageInfo(answer)
}
