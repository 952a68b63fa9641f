package yubihsm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/provider"
	hsm "privyseal/yubihsm"
)

// Each state of a device and its key has its rows.
func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(w *world)
		want   []string // patterns, a row each
	}{
		"good": {func(*world) {}, []string{
			`^ok  http://127\.0\.0\.1:\d+ is YubiHSM 0012345678, firmware 2\.4\.0 -> $`,
			`^ok chain-1 http://127\.0\.0\.1:\d+ signs with key 0x0007 in [0-9.]+[mµ]?s: all chains of the device together can have a block every [0-9.]+s, and with vote extensions every [0-9.]+s -> $`,
		}},
		"a set-up that was cut off": {func(w *world) {
			w.Dev[0].Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 1, Algorithm: yubihsmtest.AES128Auth, Label: "DEFAULT AUTHKEY CHANGE THIS ASAP", Capabilities: yubihsmtest.All}, []byte("password"))
		}, []string{`^ok  `, `^--  http://127\.0\.0\.1:\d+ has the administrator that it left the factory with: .* -> finish a set-up that was cut off: .privyseal yubihsm setup --device http://[0-9.:]+ --restore.; or give the device another administrator, and delete this one$`, `^ok chain-1 `}},
		"unplugged": {func(w *world) { w.Dev[0].Unplug() }, []string{`^FAIL  .* reaches no device \(HTTP status 500\) -> $`}},
		"gone":      {func(w *world) { w.Dev[0].StopConnector() }, []string{`^FAIL  .* no answer from the YubiHSM connector at .*connection refused -> $`}},
		"another password": {func(w *world) { w.File("four", "five") }, []string{
			`^FAIL  the password in .*/four is not the one of authentication key 0x0004 of the YubiHSM at http://127\.0\.0\.1:\d+ -> $`}},
		"no auth key": {func(w *world) { w.Dev[0].Remove(yubihsmtest.AuthenticationKey, 4) }, []string{`^FAIL  the YubiHSM at .* has no authentication key 0x0004 -> if it is a new device, set it up: .privyseal yubihsm setup --device http://[0-9.:]+.$`}},
		"another key": {func(w *world) { w.Dev[0].Swap(w.T, 7) }, []string{`^ok  `, `^FAIL chain-1 the key 0x0007 on the YubiHSM at .* is .*, not .* -> $`}},
		"no key":      {func(w *world) { w.Dev[0].Remove(yubihsmtest.AsymmetricKey, 7) }, []string{`^ok  `, `^FAIL chain-1 the key 0x0007 on .*object not found.* -> $`}},
		"not ours to sign with": {func(w *world) { w.Dev[0].ProvisionAuth(w.T, 4, "four", yubihsmtest.CanSignECDSA) }, []string{`^ok  `,
			`^FAIL chain-1 the key 0x0007 on .*insufficient permissions.*: our authentication key and this key both need the capability sign-eddsa, and a domain in common -> $`}},
		"a wrong signature": {func(w *world) { w.Dev[0].Always(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature()) }, []string{`^ok  `, `^FAIL chain-1 .* does not verify`}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := made(t, 1)
			tt.before(w)
			w.has(tt.want...)
			if n := w.Dev[0].Sessions(); n > 1 {
				t.Errorf("%d sessions stay open", n)
			}
		})
	}
}

// has fails the test if Check does not say what the patterns match, a row each.
func (w *world) has(want ...string) {
	w.T.Helper()
	rows := w.rows()
	if len(rows) != len(want) {
		w.T.Fatalf("%d rows, not %d:\n%s", len(rows), len(want), strings.Join(rows, "\n"))
	}
	for i, pattern := range want {
		if !regexp.MustCompile(pattern).MatchString(rows[i]) {
			w.T.Errorf("%q is not %s", rows[i], pattern)
		}
	}
}

// How long a device may take to sign.
func TestSlowDevice(t *testing.T) {
	for took, want := range map[time.Duration]string{
		140 * time.Millisecond:   "ok c-1 usb://1 signs with key 0x0107 in 140ms: all chains of the device together can have a block every 0.28s, and with vote extensions every 0.42s -> ",
		300 * time.Millisecond:   "ok c-1 usb://1 signs with key 0x0107 in 300ms: all chains of the device together can have a block every 0.6s, and with vote extensions every 0.9s -> ",
		300*time.Millisecond + 1: "-- c-1 usb://1 signs with key 0x0107 in 300ms: all chains of the device together can have a block every 0.6s, and with vote extensions every 0.9s -> ",
	} {
		r := &provider.Report{Chain: "c-1"}
		inspection{Report: r, address: "usb://1"}.signs(0x107, took)
		row := r.Rows[0]
		if got := fmt.Sprintf("%s %s %s -> %s", row.Verdict, row.Chain, row.Text, row.Cure); got != want {
			t.Errorf("%v: %s, not %s", took, got, want)
		}
	}
}

// Each device of a set has its rows, and one that others reach a warning.
func TestCheckOfTwo(t *testing.T) {
	w, _ := made(t, 2)
	w.Dev[0].Unplug()
	w.has(`^FAIL  `, `^ok  `, `^ok chain-1 `)
}

// A connector that others reach is a warning, and no more.
func TestCheckOfAnOpenConnector(t *testing.T) {
	w, c := made(t, 1)
	path := filepath.Join(w.Home, config.FileName)
	open := strings.Replace(string(c.Render()), "http://127.0.0.1", "http://0.0.0.0", 1)
	if err := os.WriteFile(path, []byte(open), 0o600); err != nil {
		t.Fatal(err)
	}
	w.has(`^--  http://0\.0\.0\.0:\d+ is not on this host: .* -> run the connector on this host`, `^ok  `, `^ok chain-1 `)
}

// What keeps us from a device on the USB has a row, with what to do about it. test/usb has the
// kernel say so.
func TestCheckOfTheUSB(t *testing.T) {
	for name, tt := range map[string]struct {
		cause error
		want  string
	}{
		"in use":         {syscall.EBUSY, `^--  usb://1 is in use by another program, as by the signer that runs -> stop that one to have it checked$`},
		"without rights": {syscall.EACCES, "^FAIL  cannot use the YubiHSM at usb://1: no right to use the YubiHSM 0000000001 on the USB; plug it in again after -> `echo 'SUBSYSTEM==\"usb\", .*' \\| sudo tee /etc/udev/rules.d/\\S+ && sudo udevadm control --reload`$"},
		"not permitted":  {syscall.EPERM, `^FAIL  .*: no right to use the YubiHSM 0000000001 on the USB; plug it in again after -> .echo `},
		"unplugged":      {syscall.ENODEV, `^FAIL  cannot use the YubiHSM at usb://1: the YubiHSM 0000000001 is not plugged in -> $`},
		"no answer":      {syscall.ETIMEDOUT, `^FAIL  cannot use the YubiHSM at usb://1: no answer from the YubiHSM 0000000001 on the USB: connection timed out -> $`},
	} {
		r := &provider.Report{}
		inspection{Report: r, address: "usb://1"}.failed(fmt.Errorf("cannot use the YubiHSM at usb://1: %w", &hsm.USBError{Serial: "0000000001", Cause: tt.cause}))
		if len(r.Rows) != 1 {
			t.Fatalf("%s: %+v", name, r.Rows)
		}
		row := r.Rows[0]
		matches(t, fmt.Sprintf("%s %s %s -> %s", row.Verdict, row.Chain, row.Text, row.Cure), tt.want)
	}
	w, c := made(t, 1)
	text := strings.Replace(string(c.Render()), w.Devices[0], "usb://1", 1)
	if err := os.WriteFile(filepath.Join(w.Home, config.FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.has(`^FAIL  cannot use the YubiHSM at usb://1: the YubiHSM 0000000001 is not plugged in -> $`)
}

// A log that keeps the device from signing, or soon will, has a row.
func TestCheckOfTheLog(t *testing.T) {
	w, c := made(t, 1)
	w.Dev[0].ProvisionAuth(t, 4, "four", reachtest.Signs|yubihsmtest.CanGetOption|yubihsmtest.CanSetOption|yubihsmtest.CanGetLog)
	visit := func(f func(ctx context.Context, s *hsm.Session) error) {
		t.Helper()
		set := c.Tables[reach.Table]["main"].(*reach.Set)
		if err := set.Login(c.Path).Visit(t.Context(), w.Devices[0], f); err != nil {
			t.Fatal(err)
		}
	}
	clear := func(ctx context.Context, s *hsm.Session) error {
		log, err := s.LogEntries(ctx)
		if err == nil {
			err = s.SetLogIndex(ctx, log.Entries[len(log.Entries)-1].Number)
		}
		return err
	}
	fill := func(to int) {
		visit(func(ctx context.Context, s *hsm.Session) error {
			for len(w.Dev[0].Log()) < to {
				if _, err := s.SignEdDSA(ctx, 7, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	visit(func(ctx context.Context, s *hsm.Session) error {
		return s.SetCommandAudit(ctx, map[hsm.Command]hsm.Audit{hsm.CommandSignEdDSA: hsm.AuditOn})
	})
	fill(55)
	w.has(`^ok  `, `^ok chain-1 `)
	visit(clear)
	visit(func(ctx context.Context, s *hsm.Session) error { return s.SetForceAudit(ctx, hsm.AuditOn) })
	forced := `^FAIL  force-audit is on, and nothing drains the log of http://.* -> add audit_dir = "audit" to \[yubihsm.main\]`
	w.has(`^ok  `, forced, `^ok chain-1 `)
	visit(clear)
	fill(48)
	w.has(`^ok  `, `^--  http://.* has \d+ of 62 entries in its log, and signs nothing when it is full: force-audit is on -> drain it with .privyseal yubihsm audit --out DIR.`, forced, `^ok chain-1 `)
	fill(62)
	w.has(`^ok  `, `^FAIL  http://.* has 62 of 62 entries in its log`, forced, `^FAIL chain-1 .*the log is full`)
}

// A log that the signer drains has a row that says whether it can, and whether signatures
// are in it.
func TestCheckOfTheAudit(t *testing.T) {
	w, c := made(t, 1)
	c.Tables[reach.Table]["main"].(*reach.Set).AuditDir = "audit"
	if err := os.WriteFile(filepath.Join(w.Home, config.FileName), c.Render(), 0o600); err != nil {
		t.Fatal(err)
	}
	may := func(can yubihsmtest.Capabilities) { w.Dev[0].ProvisionAuth(t, 4, "four", reachtest.Signs|can) }
	signs := `^ok chain-1 `
	w.has(`^ok  `, `^FAIL  the signer cannot drain the log of http://.*: its authentication key 0x0004 lacks the capability get-log-entries -> give the signer another one: .yubihsm-shell --connector http://`, signs)
	may(yubihsmtest.CanGetLog)
	w.has(`^ok  `, `^--  the signer drains the log of http://.*; whether signatures are in it cannot be seen without the capability get-option`, signs)
	may(yubihsmtest.CanGetLog | yubihsmtest.CanGetOption)
	w.has(`^ok  `, `^FAIL  http://.* does not log signatures, so that the audit finds none -> .yubihsm-shell .* --opt-name command-audit --opt-value 6a015601.`, signs)
	w.Dev[0].Audit(true)
	w.has(`^ok  `, `^ok  the signer drains the log of http://.*, which has its signatures`, signs)
	w.Dev[0].Audit(true, yubihsmtest.GetDeviceInfo)
	w.has(`^ok  `, `^FAIL  http://.* logs each message of a session, or each question who it is, and force-audit is on: .* -> .yubihsm-shell .* --opt-value 05000600.`, signs)
}

// What check signs differs from a vote in its length, and of secp256k1 a device gets a digest
// alone.
func TestCheckOfTheAuditOfADigest(t *testing.T) {
	if len(reach.NoVote) > 12 {
		t.Errorf("%q could be a message of a chain", reach.NoVote)
	}
	w, c := made(t, 1)
	w.Provision(8, yubihsmtest.K256, 1)
	w.Dev[0].ProvisionAuth(t, 4, "four", reachtest.Signs|yubihsmtest.CanGetLog|yubihsmtest.CanGetOption)
	w.Dev[0].Audit(true)
	public, err := yubihsm.PublicOf(hsm.PublicKey{Algorithm: hsm.K256, Bytes: w.Dev[0].Public(t, 8)})
	if err == nil {
		err = os.WriteFile(c.Path(c.Chains[0].Key), yubihsm.Reference{ID: 8, Public: public}.Encode(), 0o600)
	}
	c.Tables[reach.Table]["main"].(*reach.Set).AuditDir = "audit"
	if err == nil {
		err = os.WriteFile(filepath.Join(w.Home, config.FileName), c.Render(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.has(`^ok  `, `^ok  the signer drains`, `^-- chain-1 http://.* is not asked to sign with key 0x0008: the audit could not tell that from a vote`)
	if n := w.Dev[0].Count(yubihsmtest.SignECDSA); n > 0 {
		t.Errorf("asked for %d signatures", n)
	}
}

// Only what is on this host is not open to others.
func TestIsOpen(t *testing.T) {
	for address, want := range map[string]bool{
		"http://127.0.0.1:12345": false, "http://127.9.9.9:1": false, "http://[::1]:12345": false, "http://localhost:12345": false, "usb://": false, "usb://1": false,
		"http://192.0.2.1:12345": true, "http://hsm.test:12345": true, "https://hsm.test": true, "http://[2001:db8::1]:12345": true, "http://0.0.0.0:12345": true,
	} {
		if got := reach.IsOpen(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
