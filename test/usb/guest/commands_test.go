//go:build linux && amd64

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	reference "privyseal/internal/key/yubihsm"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/yubihsm"
)

// operator types commands in the machine.
type operator struct {
	t   *testing.T
	uid uint32
}

// types runs privyseal, and returns all that it prints.
func (o operator) types(args ...string) string {
	o.t.Helper()
	cmd := exec.Command("/privyseal", args...)
	cmd.Env = []string{"PRIVYSEAL_HOME=/tmp/home", "PRIVYSEAL_RUN=/tmp/run"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.uid}}
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	o.t.Logf("user %d: privyseal %s\n%s (%v)", o.uid, strings.Join(args, " "), text, err)
	return text
}

// prints fails the test if a command does not print what matches a pattern.
func (o operator) prints(pattern string, args ...string) string {
	o.t.Helper()
	text := o.types(args...)
	if !regexp.MustCompile(pattern).MatchString(text) {
		o.t.Errorf("%q does not match %s", text, pattern)
	}
	return text
}

// home makes a home folder by hand: the machine has no disk that `privyseal init` would put a
// state on.
func home(t *testing.T, public []byte) {
	t.Helper()
	key, err := pubkey.New(pubkey.Ed25519, public)
	if err == nil {
		err = os.MkdirAll("/tmp/home/keys", 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"password":         "four",
		"keys/one.yubihsm": string(reference.Reference{ID: 7, Public: key}.Encode()),
		"privyseal.toml": `[[chain]]
id = "one"
provider = "yubihsm"
yubihsm = "main"
key = "keys/one.yubihsm"
state = "state/one.mark"
node = [ { addr = "unix:///tmp/a.sock" } ]
[yubihsm.main]
device = ["usb://7550054"]
auth_key = 4
password_file = "password"
`,
	} {
		if err := os.WriteFile("/tmp/home/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCommands: what detect and check say of a device that can be used, one that another
// program has, and one that the operator may not use until udev has the rule that is printed.
func TestCommands(t *testing.T) {
	d := newDevice(t)
	d.ProvisionAuth(t, 4, "four", yubihsmtest.CanSignEdDSA)
	home(t, d.ProvisionEd25519(t, 7))
	root := operator{t, 0}
	const is = `: YubiHSM 0007550054, firmware 2\.4\.0`
	root.prints(`^usb://0007550054`+is, "yubihsm", "detect")
	const signs = `ok .*usb://7550054 signs with key 0x0007 in `
	root.prints(signs, "check")
	t.Run("in use", func(t *testing.T) {
		transport, err := yubihsm.Open("usb://")
		if err == nil {
			_, err = yubihsm.ReadDeviceInfo(t.Context(), transport)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer transport.Close()
		root := operator{t, 0}
		root.prints(`^usb://0007550054: in use by another program`, "yubihsm", "detect")
		root.prints(`-- .*usb://7550054 is in use by another program, as by the signer that runs`, "check")
	})
	t.Run("without rights", func(t *testing.T) {
		if err := filepath.Walk("/tmp/home", func(path string, _ os.FileInfo, _ error) error { return os.Chown(path, 1000, 1000) }); err != nil {
			t.Fatal(err)
		}
		user := operator{t, 1000}
		user.prints(`^usb://0007550054: cannot be used\n(.*\n)?.*no right to use the YubiHSM 0007550054 on the USB`, "yubihsm", "detect")
		text := user.prints(`FAIL .*no right to use the YubiHSM 0007550054 on the USB; plug it in again after`, "check")
		udev(t, text)
		user.prints(signs, "check")
	})
}

// TestSetup: a device with a key is erased, is away while it restarts, and is set up from
// given words.
func TestSetup(t *testing.T) {
	d := newDevice(t)
	d.ProvisionEd25519(t, 7)
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		for d.Count(yubihsmtest.ResetDevice) == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		d.unplug()
		d.plug()
	}()
	setUp(t)
	<-restarted
	if n := len(d.Objects()); n != 6 {
		t.Errorf("the device has %d objects", n)
	}
	operator{t, 0}.prints(`(?m)^0xfffe +opaque `, "yubihsm", "list", "--device", "usb://7550054", "--auth-key", "2", "--password-file", "/tmp/passwords/operator-password")
}

// setUp sets the device up from given words, with the passwords in /tmp/passwords.
func setUp(t *testing.T) {
	t.Helper()
	const words = "double section release consider diet pilot flip shell mother alone what fantasy much answer lottery crew nut reopen stereo square popular addict just animal"
	check(t, os.WriteFile("/tmp/words", []byte(words), 0o600))
	operator{t, 0}.prints(`^the YubiHSM 0007550054 at usb://7550054 is set up\n`, "yubihsm", "setup", "--device", "usb://7550054",
		"--restore", "--words-file", "/tmp/words", "--password-dir", "/tmp/passwords", "--serial", "7550054")
}

// udev does what the rule in a text says, to the device that it is for.
func udev(t *testing.T, text string) {
	t.Helper()
	found := regexp.MustCompile(`SUBSYSTEM=="usb", ATTR\{idVendor\}=="(\w+)", ATTR\{idProduct\}=="(\w+)", OWNER="(\w+)", MODE="0600"`).FindStringSubmatch(strings.Join(strings.Fields(text), " "))
	if found == nil || found[3] != "1000" {
		t.Fatalf("no rule for user 1000: %q", found)
	}
	devices, err := filepath.Glob("/sys/bus/usb/devices/*/idProduct")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []string
	for _, name := range devices {
		attribute := func(key string) (text string) {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(name), key))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		if attribute("idVendor") == found[1] && attribute("idProduct") == found[2] {
			var bus, device int
			fmt.Sscan(attribute("busnum"), &bus)
			fmt.Sscan(attribute("devnum"), &device)
			nodes = append(nodes, fmt.Sprintf("/dev/bus/usb/%03d/%03d", bus, device))
		}
	}
	if len(nodes) != 1 {
		t.Fatalf("the rule is for %q", nodes)
	}
	if err := os.Chown(nodes[0], 1000, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(nodes[0], 0o600); err != nil {
		t.Fatal(err)
	}
}
