package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
)

// bus is a USB with one device, which works or does not.
type bus struct {
	t      testing.TB
	device *yubihsmtest.Device
	opened int

	openFails, writeFails error
	silent                bool     // the device gives no answer yet
	answers               [][]byte // that were not read
}

func (b *bus) open(serial string) (pipe, error) {
	if b.openFails != nil {
		return nil, b.openFails
	}
	b.opened++
	return &busPipe{bus: b}, nil
}

// transport returns the transport to the device.
func (b *bus) transport() *usb {
	b.t.Helper()
	u, err := newUSB("7550054", b.open)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// busPipe is the device, open.
type busPipe struct {
	bus    *bus
	closed bool
}

func (p *busPipe) Write(message []byte, _ time.Duration) error {
	if p.closed {
		p.bus.t.Error("a closed pipe is used")
	}
	if p.bus.writeFails != nil {
		return p.bus.writeFails
	}
	answer, ok := p.bus.device.Exchange(message)
	if ok {
		p.bus.answers = append(p.bus.answers, answer)
	}
	return nil
}

func (p *busPipe) Read(buffer []byte, _ time.Duration) (int, error) {
	if p.closed {
		p.bus.t.Error("a closed pipe is used")
	}
	if p.bus.silent || len(p.bus.answers) == 0 {
		return 0, syscall.ETIMEDOUT
	}
	n := copy(buffer, p.bus.answers[0])
	p.bus.answers = p.bus.answers[1:]
	return n, nil
}

func (p *busPipe) Close() error {
	p.closed = true
	return nil
}

func TestUSB(t *testing.T) {
	b := &bus{t: t, device: yubihsmtest.New(t, yubihsmtest.Options{Serial: 7550054})}
	u := b.transport()
	if u.String() != "usb://0007550054" {
		t.Error(u)
	}
	s, err := Authenticate(t.Context(), u, 1, DeriveKey([]byte("password")))
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.DeviceInfo(t.Context())
	if err != nil || info.Serial != 7550054 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := s.Echo(t.Context(), bytes.Repeat([]byte{1}, 3000)); err != nil || b.opened != 1 {
		t.Errorf("%v; it was opened %d times", err, b.opened)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Echo(t.Context(), nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestUSBStaleAnswer: the answer to a message whose sender went away goes to nobody else.
func TestUSBStaleAnswer(t *testing.T) {
	for name, left := range map[string][][]byte{
		"none": nil, "one of ours": nil, "one of another program": {{0x81, 0, 1, 'x'}}, "two of another program": {{0x81, 0, 0}, {0x81, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bus{t: t, device: yubihsmtest.New(t, yubihsmtest.Options{}), answers: left}
			u := b.transport()
			if name == "one of ours" {
				b.silent = true
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				var failed *USBError
				if _, err := u.Exchange(ctx, []byte{6, 0, 0}); !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%v", err)
				}
				b.silent = false
			}
			answer, err := u.Exchange(t.Context(), encode(CommandEcho, []byte("new")))
			if err != nil || len(answer) == 0 || answer[0] == 0x86 || bytes.Equal(answer, []byte{0x81, 0, 1, 'x'}) || bytes.Equal(answer, []byte{0x81, 0, 0}) {
				t.Errorf("%x, %v", answer, err)
			}
		})
	}
}

// latePipe is a device that was given a command by somebody who is gone. The answer to that
// comes when ours is read, and not before.
type latePipe struct {
	pipe
	bus    *bus
	answer []byte
}

func (p *latePipe) Read(buffer []byte, timeout time.Duration) (int, error) {
	if p.answer != nil && len(p.bus.answers) > 0 {
		p.bus.answers = append([][]byte{p.answer}, p.bus.answers...)
		p.answer = nil
	}
	return p.pipe.Read(buffer, timeout)
}

// TestUSBLateAnswer: an answer that comes after we have asked something ourselves breaks one
// session, and not all that follow, each with the answer to the message before.
func TestUSBLateAnswer(t *testing.T) {
	for name, late := range map[string][]byte{
		"of a session":    {0x85, 0, 1, 'x'},
		"a refusal":       {0x7f, 0, 1, byte(SessionFailed)},
		"of a handshake":  append([]byte{0x83, 0, 17, 3}, make([]byte, 16)...),
		"of another kind": {0x86, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bus{t: t, device: yubihsmtest.New(t, yubihsmtest.Options{Serial: 7550054})}
			u := b.transport()
			u.open = func(serial string) (pipe, error) {
				p, err := b.open(serial)
				p, late = &latePipe{p, b, late}, nil
				return p, err
			}
			if _, err := Authenticate(t.Context(), u, 1, DeriveKey([]byte("password"))); err == nil {
				t.Error("the late answer was not read")
			}
			if late != nil {
				t.Fatal("there was no late answer")
			}
			s, err := Authenticate(t.Context(), u, 1, DeriveKey([]byte("password")))
			if err == nil {
				err = s.Echo(t.Context(), []byte("x"))
			}
			if err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestUSBLateAnswerOutside: the same without a session.
func TestUSBLateAnswerOutside(t *testing.T) {
	b := &bus{t: t, device: yubihsmtest.New(t, yubihsmtest.Options{Serial: 7550054})}
	u := b.transport()
	late := []byte{0x85, 0, 1, 'x'}
	u.open = func(serial string) (pipe, error) {
		p, err := b.open(serial)
		p, late = &latePipe{p, b, late}, nil
		return p, err
	}
	if _, err := ReadDeviceInfo(t.Context(), u); !errors.Is(err, ErrMalformed) {
		t.Errorf("the late answer: %v", err)
	}
	b.device.Next(byte(CommandGetDeviceInfo), yubihsmtest.Answer([]byte{0x86, 0, 9, 2, 4, 0, 0, 0, 0, 7, 62, 0}))
	if info, err := ReadDeviceInfo(t.Context(), u); err != nil || info.Serial != 7 {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
}

// TestUSBOpensAgain: a device that was unplugged is found again when it is back.
func TestUSBOpensAgain(t *testing.T) {
	b := &bus{t: t, device: yubihsmtest.New(t, yubihsmtest.Options{})}
	u := b.transport()
	ask := func() error {
		_, err := ReadDeviceInfo(t.Context(), u)
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	b.writeFails = syscall.ENODEV
	if err := ask(); !errors.Is(err, syscall.ENODEV) || !strings.Contains(err.Error(), "the YubiHSM 0007550054 is not plugged in") {
		t.Errorf("unplugged: %v", err)
	}
	b.writeFails, b.openFails = nil, ErrNoDevice
	if err := ask(); !errors.Is(err, ErrNoDevice) {
		t.Errorf("not there: %v", err)
	}
	b.openFails = nil
	if err := ask(); err != nil || b.opened != 2 {
		t.Errorf("back: %v; it was opened %d times", err, b.opened)
	}
}

func TestUSBErrors(t *testing.T) {
	for cause, says := range map[error]string{
		syscall.EBUSY: "the YubiHSM 0007550054 is in use by another program",
		&os.PathError{Op: "open", Path: "/dev/bus/usb/001/002", Err: syscall.EACCES}: "no right to use the YubiHSM 0007550054 on the USB; plug it in again after\n`echo 'SUBSYSTEM==\"usb\", ATTR{idVendor}==\"1050\", ATTR{idProduct}==\"0030\", OWNER=\"",
		syscall.EIO: "no answer from the YubiHSM 0007550054 on the USB: input/output error",
	} {
		b := &bus{t: t, openFails: cause}
		_, err := b.transport().Exchange(t.Context(), []byte{6, 0, 0})
		var failed *USBError
		if !errors.As(err, &failed) || !errors.Is(err, cause) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", cause, err)
		}
	}
	b := &bus{t: t, device: yubihsmtest.New(t, yubihsmtest.Options{})}
	u := b.transport()
	if _, err := ReadDeviceInfo(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	long := append([]byte{byte(CommandGetDeviceInfo) | answerFlag}, make([]byte, MaxMessage)...)
	b.device.Next(byte(CommandGetDeviceInfo), yubihsmtest.Answer(long))
	var failed *USBError
	if _, err := u.Exchange(t.Context(), []byte{byte(CommandGetDeviceInfo), 0, 0}); !errors.Is(err, ErrMalformed) || !errors.As(err, &failed) {
		t.Errorf("a long answer: %v", err)
	}
	busy, cancel := context.WithCancel(t.Context())
	cancel()
	u.turn <- struct{}{}
	if _, err := u.Exchange(busy, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("while it is in use: %v", err)
	}
	<-u.turn
	if _, err := u.Exchange(busy, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
}

func TestUSBAddresses(t *testing.T) {
	for _, address := range []string{"usb://x", "usb://-1", "usb://42949672960", "usb://1/2"} {
		if _, err := Open(address); err == nil {
			t.Errorf("%q is an address", address)
		}
	}
	for address, want := range map[string]string{"usb://": "usb://", "usb://7550054": "usb://0007550054", "usb://0007550054": "usb://0007550054"} {
		if u, err := Open(address); err != nil || u.(*usb).String() != want {
			t.Errorf("%q: %v, %v", address, u, err)
		}
	}
}

// The command that gives us the right to a device is one that a shell runs, and the rule that
// it writes is for this device and this user.
func TestUdevCommand(t *testing.T) {
	text := (&USBError{Serial: "0000000001", Cause: syscall.EACCES}).Error()
	_, command, _ := strings.Cut(text, "\n")
	folder := t.TempDir()
	shell := exec.Command("sh", "-e", "-c", `sudo() {
		case "$*" in
		"tee /etc/udev/rules.d/70-yubihsm.rules") cat >rule ;;
		"udevadm control --reload") touch reloaded ;;
		esac
	}
	`+strings.Trim(command, "`"))
	shell.Dir = folder
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(folder, "reloaded")); err != nil {
		t.Error(err)
	}
	rule, err := os.ReadFile(filepath.Join(folder, "rule"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, part := range regexp.MustCompile(`([A-Za-z{}]+)(==|=)"([^"]*)"(, |\n$)`).FindAllStringSubmatch(string(rule), -1) {
		got = append(got, part[1]+part[2]+part[3])
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"SUBSYSTEM==usb", "ATTR{idVendor}==1050", "ATTR{idProduct}==0030", "OWNER=" + u.Username, "MODE=0600"}
	if !slices.Equal(got, want) || strings.Count(string(rule), "\n") != 1 {
		t.Errorf("%s has %q, want %q", rule, got, want)
	}
}
