package yubihsm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"privyseal/internal/home"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	hsm "privyseal/yubihsm"
)

// types runs `privyseal yubihsm` with arguments, and returns what it prints.
func (w *world) types(ctx context.Context, stderr io.Writer, args ...string) (string, error) {
	w.T.Helper()
	var out bytes.Buffer
	cmd := w.Command(w.House())
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func (w *world) typed(args ...string) (string, error) {
	w.T.Helper()
	return w.types(w.T.Context(), io.Discard, args...)
}

func matches(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%q is not %s", text, pattern)
	}
}

// All objects of each device are listed, and the chain beside its own key alone.
func TestList(t *testing.T) {
	w, _ := made(t, 2)
	w.Dev[0].Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 8, Algorithm: yubihsmtest.K256, Label: "a\x1b[2J", Domains: 5, Capabilities: reachtest.Signs}, bytes.Repeat([]byte{2}, 32))
	w.Dev[0].ProvisionAuth(t, 4, "four", reachtest.Signs)
	w.Dev[1].Swap(t, 7)
	out, err := w.typed("list")
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(out, w.Devices[1])
	public := base64.StdEncoding.EncodeToString(w.Dev[0].Public(t, 7))
	matches(t, first, `^http://\S+: YubiHSM 0012345678, firmware 2\.4\.0, as authentication key 0x0004 of yubihsm main\n`)
	matches(t, first, `\n0x0007 +asymmetric-key +ed25519 +"" +all +chain-1 +`+regexp.QuoteMeta(public)+` +sign-ecdsa,sign-eddsa\n`)
	matches(t, first, `\n0x0008 +asymmetric-key +eck256 +"a\\x1b\[2J" +1,3 +- +\S{44} +sign-ecdsa,sign-eddsa\n`)
	matches(t, first, `\n0x0002 +authentication-key +aes128-yubico-authentication `)
	matches(t, first, `\n0x0001 +authentication-key +aes128-yubico-authentication +".*" +all +- +- +all\n`)
	matches(t, second, `\n0x0007 +asymmetric-key +ed25519 +"" +all +- `) // another key
	for _, d := range w.Dev {
		if n := d.Sessions(); n != 0 {
			t.Errorf("%d sessions stay open", n)
		}
	}
}

// The chain's key under another id is not what signs.
func TestListUnderAnotherID(t *testing.T) {
	w, _ := made(t, 1)
	w.Provision(9, yubihsmtest.Ed25519, 1) // the key 7 again
	if out, err := w.typed("list"); err != nil || strings.Count(out, " chain-1 ") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// JSON has the same, also where one of the devices does not answer.
func TestListInJSON(t *testing.T) {
	w, _ := made(t, 2)
	w.Dev[1].Unplug()
	out, err := w.typed("list", "--json")
	var devices []listed
	if wrong := json.Unmarshal([]byte(out), &devices); wrong != nil || len(devices) != 1 {
		t.Fatalf("%v: %s", wrong, out)
	}
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), w.Devices[1]) {
		t.Error(err)
	}
	var keys []string
	for _, o := range devices[0].Objects {
		keys = append(keys, fmt.Sprint(o.ID, o.Type, o.Chains, len(o.PublicKey) > 0))
	}
	w.Dev[0].Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 8, Algorithm: yubihsmtest.Ed25519, Domains: 5}, bytes.Repeat([]byte{2}, 32))
	for _, want := range []string{`"domains": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], "capabilities": ["sign-ecdsa","sign-eddsa"], "public_key"`, `"domains": [1,3], "capabilities": [], "public_key"`} {
		out, _ := w.typed("list", "--json")
		if flat := regexp.MustCompile(`\s+`).ReplaceAllString(out, ""); !strings.Contains(flat, strings.ReplaceAll(want, " ", "")) {
			t.Errorf("no %s in %s", want, flat)
		}
	}
	if got := strings.Join(keys, " "); devices[0].Serial != "0012345678" || devices[0].Table != "main" || got != "1authentication-key[] false 2authentication-key[] false 4authentication-key[] false 7asymmetric-key[chain-1] true" {
		t.Errorf("%+v: %s", devices[0], got)
	}
}

// A result that nobody gets is a failure.
func TestLostResults(t *testing.T) {
	w, _ := made(t, 1)
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"test", "--count", "1"}, {"detect", "--connector", w.Devices[0]},
		append([]string{"generate", "--key-id", "9", "--no-attestation"}, w.AsAdministrator()...)} {
		cmd := w.Command(w.House())
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetOut(full{})
		cmd.SetErr(io.Discard)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// full is a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Devices that are given need no home folder.
func TestListWithoutAHome(t *testing.T) {
	w := newWorld(t, 1)
	w.Provision(7, yubihsmtest.Ed25519, 1)
	w.Home = ""
	t.Setenv("PRIVYSEAL_HOME", "")
	out, err := w.typed(append([]string{"list"}, w.AsSigner()...)...)
	if err != nil || strings.Contains(out, "of yubihsm") || !strings.Contains(out, "\n0x0007 ") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := w.typed("list"); err == nil || err.Error() != "no home folder, and no devices\nadd --home DIR, or --device, --auth-key and --password-file" {
		t.Error(err)
	}
}

// Each device signs as often as it is asked to, says so on the way, and is measured.
func TestTest(t *testing.T) {
	w, _ := made(t, 2)
	var progress bytes.Buffer
	before := w.Dev[1].Count(yubihsmtest.SignEdDSA)
	out, err := w.types(t.Context(), &progress, "test", "--count", "20")
	if err != nil {
		t.Fatal(err)
	}
	matches(t, out, `^http://\S+ signs with key 0x0007, ed25519 [0-9A-F]{40}: 20 of 20 signatures, min [0-9.]+[mµ]?s, median \S+, max \S+: all chains of the device together can have a block every [0-9.]+s, and with vote extensions every [0-9.]+s\nhttp://`)
	if n := w.Dev[1].Count(yubihsmtest.SignEdDSA) - before; n != 20 {
		t.Errorf("%d signatures of the second device", n)
	}
	if n := strings.Count(progress.String(), "\n"); n != 20 || !strings.Contains(progress.String(), w.Devices[0]+": 2 of 20\n") {
		t.Errorf("%d lines: %s", n, &progress)
	}
	for _, args := range [][]string{{"--key-id", "7", "--count", "1"}, append(w.AsSigner("--key-id", "7"), "--count", "1"), {"--chain-id", "chain-1", "--yubihsm", "main", "--count", "1"}} {
		if out, err := w.typed(append([]string{"test"}, args...)...); err != nil || strings.Count(out, "1 of 1 signatures") != 2 {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

// stopper is called with the first line of progress.
type stopper func()

func (s stopper) Write(p []byte) (int, error) { s(); return len(p), nil }

// At ^C it stops, and says what it has by then.
func TestTestIsStopped(t *testing.T) {
	w, _ := made(t, 1)
	var once sync.Once // a second one would end the tests
	stop := stopper(func() { once.Do(func() { syscall.Kill(syscall.Getpid(), syscall.SIGINT) }) })
	out, err := w.types(t.Context(), stop, "test", "--count", "1000")
	if err != nil {
		t.Fatal(err)
	}
	matches(t, out, `: [0-9]+ of 1000 signatures, min `)
	if strings.Contains(out, "1000 of 1000") {
		t.Error(out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err := w.types(ctx, io.Discard, "test"); err == nil || out != "" {
		t.Errorf("%s, %v", out, err)
	}
}

// Whatever is in the way is said once.
func TestCommandsRefuse(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer web.Close()
	for name, tt := range map[string]struct {
		before func(w *world)
		args   []string
		want   string
	}{
		"another password":        {func(w *world) { w.File("four", "five") }, []string{"list"}, `^the password in \S+/four is not the one of authentication key 0x0004 of the YubiHSM at http://\S+$`},
		"another password, test":  {func(w *world) { w.File("four", "five") }, []string{"test"}, `^the password in \S+/four is not the one of authentication key 0x0004 of the YubiHSM at http://\S+$`},
		"no auth key":             {func(w *world) { w.Dev[0].Remove(yubihsmtest.AuthenticationKey, 4) }, []string{"list"}, `^the YubiHSM at \S+ has no authentication key 0x0004\nif it is a new device, set it up: .privyseal yubihsm setup --device \S+.$`},
		"gone":                    {func(w *world) { w.Dev[0].StopConnector() }, []string{"list"}, `^cannot use the YubiHSM at \S+: no answer from the YubiHSM connector at \S+: .*connection refused$`},
		"gone, test":              {func(w *world) { w.Dev[0].StopConnector() }, []string{"test"}, `^cannot use the YubiHSM at \S+: no answer from the YubiHSM connector at \S+: .*connection refused$`},
		"a web server":            {func(w *world) { w.Devices = []string{web.URL} }, []string{"list", "GIVEN"}, `^what answers at http://\S+ is not a YubiHSM connector: [^\n]*$`},
		"no such key":             {nil, []string{"test", "--key-id", "9"}, `^the YubiHSM at \S+ has no key 0x0009, or none in a domain of authentication key 0x0004$`},
		"another key":             {func(w *world) { w.Dev[0].Swap(w.T, 7) }, []string{"test"}, `^the key 0x0007 on the YubiHSM at \S+ is ed25519 \S+, not ed25519 \S+$`},
		"no right to sign":        {func(w *world) { w.Dev[0].ProvisionAuth(w.T, 4, "four", yubihsmtest.CanSignECDSA) }, []string{"test"}, `^the key 0x0007 on .*: our authentication key and this key both need the capability sign-eddsa, and a domain in common$`},
		"a wrong signature":       {func(w *world) { w.Dev[0].Always(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature()) }, []string{"test"}, `does not verify`},
		"no signature":            {nil, []string{"test", "--count", "0"}, `^--count 0 is not at least 1$`},
		"a key and a chain":       {nil, []string{"test", "--key-id", "7", "--chain-id", "chain-1"}, `^--key-id and --chain-id do not go together`},
		"no key":                  {nil, []string{"test", "GIVEN"}, `^--key-id is missing`},
		"no such chain":           {nil, []string{"test", "--chain-id", "x"}, `^chain "x" is not in the config`},
		"no such table":           {nil, []string{"list", "--yubihsm", "x"}, `^there is no \[yubihsm\.x\] in privyseal\.toml$`},
		"half of what is given":   {nil, []string{"list", "--auth-key", "4"}, `^--device is missing: --device, --auth-key and --password-file go together$`},
		"given, and of a table":   {nil, []string{"list", "GIVEN", "--yubihsm", "main"}, `^--yubihsm is for devices of the config, and --device for others$`},
		"a wrong address":         {func(w *world) { w.Devices = []string{"ftp://a"} }, []string{"list", "GIVEN"}, `^--device is wrong: "ftp://a" is not an address of a YubiHSM`},
		"an authentication key 0": {nil, []string{"list", "GIVEN", "--auth-key", "0"}, `^--auth-key is not from 1 to 65535$`},
		"detect a web server":     {nil, []string{"detect", "--connector", web.URL}, `^what answers at http://\S+ is not a YubiHSM connector`},
		"detect nothing":          {nil, []string{"detect", "--connector", "usb://1"}, `^--connector: "usb://1" is not an address of a YubiHSM connector`},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := made(t, 1)
			if tt.before != nil {
				tt.before(w)
			}
			var args []string
			for _, arg := range tt.args {
				if arg == "GIVEN" {
					args = append(args, w.AsSigner()...)
				} else {
					args = append(args, arg)
				}
			}
			out, err := w.typed(args...)
			if err == nil || strings.Contains(out, "signs with") {
				t.Fatalf("%v: %s", err, out)
			}
			matches(t, err.Error(), tt.want)
		})
	}
}

// A chain of another provider has no key on a device.
func TestTestOfAnotherChain(t *testing.T) {
	_, c := made(t, 1)
	c.Chains[0].Provider = "soft"
	_, err := (&speedTest{}).ofChain([]reach.Place{{Table: "main", Config: c}}, c, c.Chains[0])
	if err == nil || err.Error() != "chain chain-1 has its key elsewhere" {
		t.Error(err)
	}
}

// broken is a device on the USB that does not answer.
type broken struct{ err error }

func (b broken) Exchange(context.Context, []byte) ([]byte, error) { return nil, b.err }
func (broken) Close() error                                       { return nil }

// What is on the USB and at connectors is found, and what keeps us from it is said.
func TestDetect(t *testing.T) {
	w := newWorld(t, 1)
	away := yubihsmtest.New(t, yubihsmtest.Options{})
	away.StopConnector()
	for name, tt := range map[string]struct {
		before func(s *search)
		out    string
		err    string
	}{
		"a connector": {func(*search) {}, `^http://\S+: YubiHSM 0012345678, firmware 2\.4\.0, at connector version "3\.0\.5"\n$`, `^$`},
		"on the USB": {func(s *search) { s.usb = func() ([]uint32, error) { return []uint32{12, 3}, nil } },
			`^usb://0000000003: YubiHSM 0012345678, firmware 2\.4\.0\nusb://0000000012: YubiHSM 0012345678, firmware 2\.4\.0\nhttp://`, `^$`},
		"in use": {func(s *search) {
			s.usb = func() ([]uint32, error) { return []uint32{3}, nil }
			s.open = func(string) (hsm.Transport, error) { return broken{&hsm.USBError{Cause: syscall.EBUSY}}, nil }
		}, `^usb://0000000003: in use by another program, as by yubihsm-connector or a signer\n`, `^$`},
		"without rights": {func(s *search) {
			s.usb = func() ([]uint32, error) { return []uint32{3}, nil }
			s.open = func(string) (hsm.Transport, error) {
				return broken{&hsm.USBError{Serial: "0000000003", Cause: syscall.EACCES}}, nil
			}
		}, `^usb://0000000003: cannot be used\nhttp://`, "^no right to use the YubiHSM 0000000003 on the USB; plug it in again after\n`echo 'SUBSYSTEM==\"usb\", .*udevadm control --reload`$"},
		"no USB":       {func(s *search) { s.usb = func() ([]uint32, error) { return nil, errors.New("no USB here") } }, `^http://`, `^no USB here$`},
		"unplugged":    {func(s *search) { s.connectors = []string{w.Devices[0]}; w.Dev[0].Unplug() }, `^$`, `^the connector at http://\S+ has no device$`},
		"nobody there": {func(s *search) { s.connectors = []string{away.URL()} }, `^$`, `^there is no YubiHSM 2 on the USB, and no connector at http://\S+$`},
		"nobody where I said": {func(s *search) { s.connectors, s.given = []string{away.URL(), w.Devices[0]}, true }, `^http://`,
			`^no answer from the YubiHSM connector at \S+: .*connection refused$`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			defer w.Dev[0].Plug()
			s := search{Writer: &out, connectors: w.Devices, usb: func() ([]uint32, error) { return nil, nil },
				open: func(string) (hsm.Transport, error) { return hsm.Open(w.Devices[0]) }}
			tt.before(&s)
			err := s.run(t.Context())
			text := ""
			if err != nil {
				text = err.Error()
			}
			matches(t, out.String(), tt.out)
			matches(t, text, tt.err)
		})
	}
}

// A table of the config is chosen by its name, and needed where there are several.
func TestSeveralTables(t *testing.T) {
	w, _ := made(t, 1)
	w.Provision(8, yubihsmtest.Ed25519, 2)
	if out, err := w.init(home.Order{ChainID: "chain-3"}, w.set("--yubihsm", "spare", "--yubihsm-take", "--yubihsm-key-id", "8", "--fresh-state", "--yes")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := w.typed("list"); err != nil || strings.Count(out, ": YubiHSM ") != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := w.typed("list", "--yubihsm", "spare"); err != nil || strings.Count(out, ": YubiHSM ") != 1 || !strings.Contains(out, "of yubihsm spare") || !strings.Contains(out, " chain-3 ") || strings.Contains(out, " chain-1 ") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := w.typed("test", "--key-id", "8"); err == nil || err.Error() != "there are several [yubihsm.NAME]: add --yubihsm NAME" {
		t.Error(err)
	}
	if out, err := w.typed("test", "--chain-id", "chain-3", "--count", "1"); err != nil || !strings.Contains(out, " key 0x0008,") {
		t.Errorf("%v: %s", err, out)
	}
}
