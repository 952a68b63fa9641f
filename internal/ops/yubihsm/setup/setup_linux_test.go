package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm/provision"
	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/setup/setuptest"
	"privyseal/internal/terminal/terminaltest"
	"privyseal/yubihsm"
)

const (
	example = "double section release consider diet pilot flip shell mother alone what fantasy much answer lottery crew nut reopen stereo square popular addict just animal"
	serial  = "0012345678"
)

// world is a device of the factory, a terminal, and a folder.
type world struct {
	t    *testing.T
	dev  *yubihsmtest.Device
	tty  *terminaltest.Terminal
	dir  string
	path string // of the terminal
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("TERM", "xterm")
	w := &world{t: t, dev: yubihsmtest.New(t, yubihsmtest.Options{}), tty: terminaltest.New(t), dir: t.TempDir()}
	w.path = w.tty.Path
	return w
}

// alone is a world without a terminal.
func alone(t *testing.T) *world {
	w := newWorld(t)
	w.path = w.file("no terminal", "")
	return w
}

func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// passwords is the folder for the files of the roles.
func (w *world) passwords() string { return filepath.Join(w.dir, "passwords") }

// words returns the flags of given words.
func (w *world) words(text string) []string {
	return []string{"--restore", "--words-file", w.file("words", text)}
}

// start runs `privyseal yubihsm setup`, and returns how to wait for what it prints.
func (w *world) start(args ...string) (wait func() (string, error)) {
	w.t.Helper()
	var out bytes.Buffer
	cmd := (&setting{app: &cli.App{}, tty: w.path, device: provision.Device{Restart: time.Nanosecond}}).command()
	root := &cobra.Command{Use: "privyseal", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cmd)
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"setup", "--device", w.dev.URL(), "--password-dir", w.passwords()}, args...))
	done := make(chan error, 1)
	w.tty.Starts()
	go func() {
		err := root.ExecuteContext(w.t.Context())
		w.tty.Ends()
		done <- err
	}()
	return func() (string, error) {
		w.t.Helper()
		select {
		case err := <-done:
			return out.String(), err
		case <-time.After(terminaltest.Patience):
			w.t.Fatalf("it has not ended, after\n%s", w.tty.Written())
			return "", nil
		}
	}
}

// must is start that has to succeed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.start(args...)()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// refuses is start that has to fail with want, and to change neither the device nor the folder.
func (w *world) refuses(want string, args ...string) {
	w.t.Helper()
	before := w.all()
	out, err := w.start(args...)()
	w.failed(want, before, out, err)
}

func (w *world) failed(want, before, out string, err error) {
	w.t.Helper()
	if err == nil || out != "" {
		w.t.Errorf("%v, want %q\n%s", err, want, out)
		return
	}
	if what, next := cure.Split(err.Error()); !strings.Contains(what+" -> "+next, want) {
		w.t.Errorf("%s -> %s\nwant %s", what, next, want)
	}
	if after := w.all(); after != before {
		w.t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
}

// all is what is on the device and in the folder.
func (w *world) all() string {
	var b strings.Builder
	for _, o := range w.dev.Objects() {
		fmt.Fprintf(&b, "%+v\n", o)
	}
	files, _ := filepath.Glob(filepath.Join(w.passwords(), "*"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "%s: %s\n", f, text)
	}
	return b.String()
}

// isSetUp fails the test if the device and the files are not those of some words.
func (w *world) isSetUp(text string) {
	w.t.Helper()
	parsed, err := words.Parse([]byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	secrets, err := provision.Derive(parsed)
	if err != nil {
		w.t.Fatal(err)
	}
	ours := provision.Device{Address: w.dev.URL()}
	at, err := ours.Look(context.Background(), secrets.Logins()...)
	if err != nil {
		w.t.Fatal(err)
	}
	if begun, err := ours.Begun(context.Background(), at, secrets); !begun || err != nil || at.As.ID != provision.Admin || len(at.Objects) < 6 {
		w.t.Errorf("it is not set up: %v, %v, %+v", begun, err, at)
	}
	if _, err := ours.Look(context.Background(), provision.Factory()); err == nil {
		w.t.Error("the factory's password opens it")
	}
	for _, role := range []string{"operator", "auditor", "validator"} {
		path := filepath.Join(w.passwords(), role+"-password")
		got, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		want, err := parsed.Password(role)
		if info, statErr := os.Stat(path); err != nil || statErr != nil || info.Mode() != 0o600 || string(got) != string(want)+"\n" {
			w.t.Errorf("%s: %q, want %q, %v, %v", path, got, want, info, err)
		}
	}
}

// New words are shown where nothing keeps them, and asked back before the device changes. A
// word that is typed wrongly is named, and the same words are shown again.
func TestNewWords(t *testing.T) {
	w := newWorld(t)
	wait := w.start()
	list := setuptest.Read(t, w.tty)
	mistaken := append(append([]string{}, list[:4]...), "zebra")
	if list[4] == "zebra" {
		mistaken[4] = "zoo"
	}
	setuptest.Type(t, w.tty, mistaken)
	w.tty.Reads("Word 5 is not the one that was shown.\r\nPress Return to see the words again. ")
	if n := len(w.dev.Objects()); n != 1 {
		t.Errorf("the device has %d objects by now", n)
	}
	w.tty.Types("\r")
	if again := setuptest.Read(t, w.tty); strings.Join(again, " ") != strings.Join(list, " ") {
		t.Errorf("first %q, then %q", list, again)
	}
	w.tty.Reads("Word 1 of 24: ")
	w.tty.Types(strings.ToUpper(strings.Join(list[:20], " ")) + "\r")
	w.tty.Reads("Word 21 of 24: ")
	w.tty.Types(strings.Join(list[20:], "  ") + "\r")
	out, err := wait()
	if err != nil {
		t.Fatal(err)
	}
	w.isSetUp(strings.Join(list, " "))
	// Some words of the list are in what is printed anyway: both are compared as a whole.
	if kept := strings.ReplaceAll(w.tty.Keeps(), "\r\n", "\n"); kept != keptOfNewWords {
		t.Errorf("kept is\n%s\nand not\n%s", kept, keptOfNewWords)
	}
	if want := fmt.Sprintf(saidOfNewWords, serial, w.dev.URL(), w.passwords()); out != want {
		t.Errorf("it prints\n%s\nand not\n%s", out, want)
	}
}

const (
	asksForWords   = "Now type the words from the paper, one or more to a line. They do not show.\nWord 1 of 24: \n"
	keptOfNewWords = asksForWords + "Word 2 of 24: \nWord 3 of 24: \nWord 4 of 24: \nWord 5 of 24: \n" +
		"Word 5 is not the one that was shown.\nPress Return to see the words again. \n" + asksForWords + "Word 21 of 24: \n"
	saidOfNewWords = `the YubiHSM %[1]s at %[2]s is set up
authentication key 1, admin: the 24 words
authentication key 2, operator: %[3]s/operator-password
authentication key 3, auditor: %[3]s/auditor-password
authentication key 4, validator: %[3]s/validator-password
wrap key 1: for backups, in all devices with these words
` + "next: `privyseal init --provider yubihsm --chain-id CHAIN-ID --node ADDR --yubihsm-device %[2]s --yubihsm-auth-key 4 --yubihsm-password-file %[3]s/validator-password" +
		" --yubihsm-key-id 1 --yubihsm-admin-auth-key 2 --yubihsm-admin-password-file %[3]s/operator-password`\n"
)

// Three mistakes end it, and nothing has changed.
func TestWordsThatWereNotWrittenDown(t *testing.T) {
	w := newWorld(t)
	before := w.all()
	wait := w.start()
	for try := range tries {
		list := setuptest.Read(t, w.tty)
		w.tty.Reads("Word 1 of 24: ")
		w.tty.Types(strings.Join(list[:23], " ") + " x\r")
		w.tty.Reads("Word 24 is not the one that was shown.")
		if try < tries-1 {
			w.tty.Types("\r")
		}
	}
	out, err := wait()
	w.failed("the words were not typed as they were shown, 3 times; nothing on the device has changed, and the words are worth nothing -> type the same command again", before, out, err)
}

// A device that is not empty is erased when its number was typed, at the terminal or as a
// flag, and never otherwise.
func TestNotEmpty(t *testing.T) {
	w := newWorld(t)
	w.dev.ProvisionEd25519(t, 7)
	before := w.all()
	for _, typed := range []string{"12345679", "", "yes", "y", "12345678x"} {
		wait := w.start()
		if asks := w.tty.Reads("type the serial number: "); !strings.Contains(asks, "the YubiHSM "+serial+" at "+w.dev.URL()+" is not empty: 1 authentication key, 1 asymmetric key") {
			t.Errorf("it asks\n%s", asks)
		}
		w.tty.Types(typed + "\r")
		out, err := wait()
		w.failed("that is not the serial number of the device; nothing on it has changed", before, out, err)
	}
	w.refuses("--serial 12345679 is not that of the YubiHSM at "+w.dev.URL()+", which has "+serial, "--serial", "12345679")
	w.refuses(`--serial: "x" is not a serial number`, "--serial", "x")
	wait := w.start()
	w.tty.Reads("type the serial number: ")
	w.tty.Types(serial + "\r")
	list := setuptest.Read(t, w.tty)
	setuptest.Type(t, w.tty, list)
	if _, err := wait(); err != nil {
		t.Fatal(err)
	}
	w.isSetUp(strings.Join(list, " "))
	if n := len(w.dev.Objects()); n != 6 {
		t.Errorf("the device has %d objects", n)
	}
}

// A device that was set up before is erased with its own administrator's password, which is
// asked for, or in a file.
func TestSetUpBefore(t *testing.T) {
	w := newWorld(t)
	w.must(w.words(example)...)
	if err := os.RemoveAll(w.passwords()); err != nil {
		t.Fatal(err)
	}
	before := w.all()
	for password, want := range map[string]string{"password": "authentication key 0x0001 of the YubiHSM at " + w.dev.URL() + " has another password -> name one", "": "no password was typed; nothing on the device has changed"} {
		wait := w.start()
		w.tty.Reads("Password of authentication key 1 (of 1, the 24 words): ")
		w.tty.Types(password + "\r")
		out, err := wait()
		w.failed(want, before, out, err)
	}
	w.refuses("has another password -> name one that opens it with --auth-key and --password-file; without any, hold", "--password-file", w.file("wrong", "wrong"), "--serial", serial)
	wait := w.start()
	w.tty.Reads("Password of authentication key 1 ")
	w.tty.Reads(": ")
	w.tty.Types(" " + strings.ToUpper(example[:20]) + strings.ReplaceAll(example[20:], " ", "  ") + "\r")
	w.tty.Reads("is not empty: 1 opaque object, 4 authentication keys, 1 wrap key")
	w.tty.Types(serial + "\r")
	list := setuptest.Read(t, w.tty)
	setuptest.Type(t, w.tty, list)
	if _, err := wait(); err != nil {
		t.Fatal(err)
	}
	w.isSetUp(strings.Join(list, " "))
	if strings.Contains(w.tty.Keeps(), "section release") {
		t.Error("the password shows")
	}
}

// A role without the right to reset the device is refused, and one that is missing.
func TestWrongRole(t *testing.T) {
	w := alone(t)
	w.must(w.words(example)...)
	other := "abandon amount liar amount expire adjust cage candy arch gather drum bullet absurd math era live bid rhythm alien crouch range attend journey unaware"
	args := append(w.words(other), "--serial", serial)
	w.refuses("authentication key 0x0002 of the YubiHSM at "+w.dev.URL()+" may not do this: it lacks the capability reset-device -> name one",
		append(args, "--auth-key", "2", "--password-file", filepath.Join(w.passwords(), "operator-password"))...)
	w.refuses("the YubiHSM at "+w.dev.URL()+" has no authentication key 0x0009", append(args, "--auth-key", "9", "--password-file", w.file("nine", "nine"))...)
	w.refuses("authentication key 0x0001 of the YubiHSM at "+w.dev.URL()+" has another password", args...)
	if w.dev.Count(yubihsmtest.ResetDevice) != 0 {
		t.Error("a device was reset")
	}
	w.path = w.tty.Path
	before := w.all()
	wait := w.start("--auth-key", "4")
	w.tty.Reads("Password of authentication key 4 ")
	password, err := os.ReadFile(filepath.Join(w.passwords(), "validator-password"))
	if err != nil {
		t.Fatal(err)
	}
	w.tty.Types(strings.TrimSpace(string(password)) + "\r")
	out, err := wait()
	w.failed("authentication key 0x0004 of the YubiHSM at "+w.dev.URL()+" may not do this: it lacks the capability get-pseudo-random,reset-device", before, out, err)
	weak := yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 1, Algorithm: yubihsmtest.AES128Auth, Capabilities: yubihsmtest.All &^ yubihsmtest.CanGetRandom, Delegated: yubihsmtest.All}
	w = newWorld(t)
	w.dev.Provision(t, weak, []byte("password"))
	w.refuses("may not do this: it lacks the capability get-pseudo-random")
}

// A device that does not answer is missed before anybody has typed 24 words.
func TestNoDeviceForWords(t *testing.T) {
	w := newWorld(t)
	w.dev.Unplug()
	w.refuses("reaches no device", "--restore")
	if text := w.tty.Written(); strings.Contains(text, "Word") {
		t.Errorf("it asks for words: %q", text)
	}
}

// What is wrong with given words is said, and which one.
func TestGivenWords(t *testing.T) {
	w := alone(t)
	all := strings.Fields(example)
	for want, text := range map[string]string{
		"words: word 3 of 24 is not in the list of words": strings.Replace(example, "release", "releas", 1),
		"words: 24 words are needed, and these are 23":    strings.Join(all[1:], " "),
		"words: the checksum of the 24 words is wrong":    strings.Join(append([]string{all[1], all[0]}, all[2:]...), " "),
		"words: 24 words are needed, and these are 0":     "",
		"cannot read the file with words ":                strings.Repeat("x", maxWords+1),
	} {
		w.refuses(want, w.words(text)...)
	}
	args := w.words(example)
	if err := os.Chmod(args[2], 0o644); err != nil {
		t.Fatal(err)
	}
	w.refuses("has mode 0644, so that others may have read it", args...)
	w.refuses("no such file", "--restore", "--words-file", filepath.Join(w.dir, "none"))
	if w.dev.Count(yubihsmtest.Any) != 0 {
		t.Error("the device was asked")
	}
}

// Words are asked for until they belong together, three times. A word that is not in the list
// is asked for again at once.
func TestTypedWords(t *testing.T) {
	w := newWorld(t)
	all := strings.Fields(example)
	wait := w.start("--restore")
	w.tty.Reads("Type the 24 words, one or more to a line. They do not show.")
	w.tty.Reads("Word 1 of 24: ")
	w.tty.Types("double section releas consider\r")
	w.tty.Reads("Word 3 is not in the list of words (BIP 39, English).")
	w.tty.Reads("Word 3 of 24: ")
	w.tty.Types(strings.Join(all[2:22], " ") + " animal just\r")
	w.tty.Reads("the checksum of the 24 words is wrong: ")
	w.tty.Reads("Word 1 of 24: ")
	w.tty.Types(example + "\r")
	if _, err := wait(); err != nil {
		t.Fatal(err)
	}
	w.isSetUp(example)
	if kept := w.tty.Keeps(); strings.Contains(kept, "section") || strings.Contains(kept, "animal") {
		t.Errorf("what was typed shows:\n%s", kept)
	}

	w = newWorld(t)
	before := w.all()
	wait = w.start("--restore")
	for range tries {
		w.tty.Reads("Word 1 of 24: ")
		w.tty.Types(strings.Repeat("zoo ", 25) + "\r")
		w.tty.Reads("There are more than 24 words")
	}
	out, err := wait()
	w.failed("the checksum of the 24 words is wrong", before, out, err)
}

// A device that the words have set up is left as it is, with its keys, and the files come
// back.
func TestRestoreAgain(t *testing.T) {
	w := alone(t)
	out := w.must(w.words(example)...)
	if !strings.Contains(out, "backups come back with `privyseal yubihsm restore FILE --device "+w.dev.URL()+" --auth-key 2 --password-file "+w.passwords()+"/operator-password`") {
		t.Errorf("it prints\n%s", out)
	}
	w.dev.ProvisionEd25519(t, 7)
	before := w.all()
	if out := w.must(w.words(example)...); !strings.Contains(out, " is set up with these words\n") || w.all() != before {
		t.Errorf("%s\nthere was\n%s\nand is\n%s", out, before, w.all())
	}
	if err := os.Remove(filepath.Join(w.passwords(), "validator-password")); err != nil {
		t.Fatal(err)
	}
	w.must(append(w.words(example), "--serial", serial)...)
	w.isSetUp(example)
	if w.all() != before || w.dev.Count(yubihsmtest.ResetDevice) != 0 {
		t.Errorf("there is\n%s", w.all())
	}
}

// A folder in which the files cannot be made is refused before anything changes.
func TestPasswordFolder(t *testing.T) {
	w := alone(t)
	if err := os.Mkdir(w.passwords(), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.passwords(), "auditor-password")
	for _, text := range []string{"mine", "\n", "", strings.Repeat("x", 2*maxPassword)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.refuses(path+" already exists, and nothing is overwritten -> move it away, or name another folder with --password-dir", w.words(example)...)
		w.path = w.tty.Path
		w.refuses(path + " already exists, and nothing is overwritten")
		w.path = filepath.Join(w.dir, "no terminal")
	}
	if err := errors.Join(os.Remove(path), os.Symlink("nowhere", path)); err != nil {
		t.Fatal(err)
	}
	w.refuses(path+" already exists", w.words(example)...)
	w.refuses("the passwords cannot be written: write "+w.dir+"/words: not a directory", append(w.words(example), "--password-dir", filepath.Join(w.dir, "words", "below"))...)
}

// Passwords that cannot be written after all are missing, and nothing else is.
func TestPasswordsAreNotWritten(t *testing.T) {
	w := alone(t)
	w.dev.Next(yubihsmtest.PutOpaque, yubihsmtest.Spoil(func(data []byte) []byte { w.file("passwords", ""); return data }))
	out, err := w.start(w.words(example)...)()
	if err == nil || out != "" {
		t.Fatalf("%v\n%s", err, out)
	}
	if what, next := cure.Split(err.Error()); !strings.HasPrefix(what, "the device is set up, and its passwords are not written: ") || next != "type the same command again, with another --password-dir" {
		t.Errorf("%s -> %s", what, next)
	}
	if err := os.Remove(w.passwords()); err != nil {
		t.Fatal(err)
	}
	w.must(w.words(example)...)
	w.isSetUp(example)
}

// A set-up that is cut off says how it is finished, and is finished by that.
func TestInterrupted(t *testing.T) {
	for command := range map[byte]bool{yubihsmtest.PutAuthenticationKey: true, yubihsmtest.PutWrapKey: true, yubihsmtest.PutOpaque: true, yubihsmtest.DeleteObject: true} {
		w := newWorld(t)
		w.dev.Next(command, yubihsmtest.UnpluggedWithin())
		wait := w.start()
		list := setuptest.Read(t, w.tty)
		setuptest.Type(t, w.tty, list)
		out, err := wait()
		if err == nil || out != "" {
			t.Fatalf("%v\n%s", err, out)
		}
		what, next := cure.Split(err.Error())
		if !strings.HasPrefix(what, "the device may be set up in part, and may still have the password that everybody knows: cannot use the YubiHSM at ") ||
			!strings.HasPrefix(next, "finish it with the same words: `privyseal ") || !strings.HasSuffix(next, " --restore`") {
			t.Errorf("%s -> %s", what, next)
		}
		if _, err := os.Stat(w.passwords()); err == nil {
			t.Error("there are passwords")
		}
		w.dev.Plug()
		w.path = w.file("no terminal", "")
		w.must(w.words(strings.Join(list, " "))...)
		w.isSetUp(strings.Join(list, " "))
	}
}

// Without the words of an interrupted set-up, it says where they are asked for.
func TestInterruptedByOthers(t *testing.T) {
	w := newWorld(t)
	w.dev.Next(yubihsmtest.DeleteObject, yubihsmtest.UnpluggedWithin())
	wait := w.start()
	setuptest.Type(t, w.tty, setuptest.Read(t, w.tty))
	if _, err := wait(); err == nil {
		t.Fatal("nothing has failed")
	}
	w.dev.Plug()
	w.refuses("has no authentication key 0x0001, and a set-up of it was interrupted -> finish it with its words: `privyseal ")

	w = newWorld(t)
	w.dev.Next(yubihsmtest.PutWrapKey, yubihsmtest.UnpluggedWithin())
	wait = w.start()
	setuptest.Type(t, w.tty, setuptest.Read(t, w.tty))
	if _, err := wait(); err == nil {
		t.Fatal("nothing has failed")
	}
	w.dev.Plug()
	before := w.all()
	wait = w.start()
	if asks := w.tty.Reads("type the serial number: "); !strings.Contains(asks, "if that is a set-up that was interrupted, its words finish it, with --restore") {
		t.Errorf("it asks\n%s", asks)
	}
	w.tty.Types("\r")
	out, err := wait()
	w.failed("that is not the serial number", before, out, err)
	w.path = w.file("no terminal", "")
	w.refuses("is not empty: 4 authentication keys, 1 wrap key; nothing has changed -> to erase all of it, add --serial", w.words(example)...)
	w.must(append(w.words(example), "--serial", serial)...)
	w.isSetUp(example)
}

// What cannot be meant, and where words cannot go, is refused.
func TestFlags(t *testing.T) {
	w := alone(t)
	w.refuses("this needs a terminal: the words go through no pipe and into no log: there is no terminal")
	w.refuses("this needs a terminal", "--restore")
	w.refuses("--words-file goes with --restore", "--words-file", "x")
	w.refuses("--password-file is missing: there is no terminal to ask for the password of --auth-key", append(w.words(example), "--auth-key", "2")...)
	w.refuses("--device is missing", "--device", "")
	w.refuses("--device is wrong", "--device", "ftp://x")
	w.refuses("--device http://192.0.2.1:12345 is not on this host: whoever reads along", "--device", "http://192.0.2.1:12345")
	w.dev.Unplug()
	w.refuses("cannot use the YubiHSM at "+w.dev.URL(), w.words(example)...)
	w.refuses("none: no such file or directory", append(w.words(example), "--password-file", filepath.Join(w.dir, "none"))...)
	w.dev.Plug()
	for range yubihsmtest.MaxSessions {
		w.occupies()
	}
	w.refuses("all 16 sessions of the YubiHSM at "+w.dev.URL()+" are in use -> wait half a minute", w.words(example)...)
}

// occupies takes a session.
func (w *world) occupies() {
	w.t.Helper()
	transport, err := yubihsm.Open(w.dev.URL())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := yubihsm.Authenticate(w.t.Context(), transport, 1, yubihsm.DeriveKey([]byte("password"))); err != nil {
		w.t.Fatal(err)
	}
}

// The words are in no core file, before they are in memory.
func TestNoCoreFiles(t *testing.T) {
	w := alone(t)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	w.refuses("no such file", "--restore", "--words-file", filepath.Join(w.dir, "none"))
	if is, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || is != 0 {
		t.Errorf("dumpable: %d, %v", is, err)
	}
}

// A device that was exchanged while the words were written down is left alone.
func TestExchangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	before := w.all()
	wait := w.start()
	list := setuptest.Read(t, w.tty)
	setuptest.Type(t, w.tty, list[:23])
	w.dev.StopConnector()
	other, err := yubihsmtest.Launch(strings.TrimPrefix(w.dev.URL(), "http://"), yubihsmtest.Options{Serial: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Stop()
	w.tty.Types(list[23] + "\r")
	out, err := wait()
	w.failed("nothing has changed, and the words are worth nothing: the YubiHSM at "+w.dev.URL()+" is another one now: its serial number is 0000000005, and was "+serial, before, out, err)
	if len(other.Objects()) != 1 {
		t.Errorf("the other one has %v", other.Objects())
	}
}

// Control-D ends it.
func TestEnded(t *testing.T) {
	w := newWorld(t)
	before := w.all()
	wait := w.start()
	setuptest.Read(t, w.tty)
	w.tty.Reads("Word 1 of 24: ")
	w.tty.Types("\x04")
	out, err := wait()
	w.failed("stopped: the terminal was closed, or Control-D was typed; nothing on the device has changed", before, out, err)
}

// A device that the words have set up, and of which something was changed since, is not
// erased by a script: somebody has to type its number at the terminal.
func TestChangedSince(t *testing.T) {
	w := newWorld(t)
	w.must(w.words(example)...)
	w.dev.ProvisionEd25519(t, 7)
	for _, o := range w.dev.Objects() {
		if o.Type == yubihsmtest.AuthenticationKey && o.ID == provision.Operator {
			w.dev.Provision(t, o, []byte("another"))
		}
	}
	differs := "authentication-key 0x0002 of the YubiHSM at " + w.dev.URL() + " is not what the words make: it has another password"
	w.refuses(differs+" -> to erase all that is on it, and set it up again, leave out --serial: the terminal asks", append(w.words(example), "--serial", serial)...)
	wait := w.start(w.words(example)...)
	if asks := w.tty.Reads("type the serial number: "); !strings.Contains(asks, "1 asymmetric key, 1 wrap key; these words have set it up, but "+differs+".") {
		t.Errorf("it asks\n%s", asks)
	}
	w.tty.Types(serial + "\r")
	if _, err := wait(); err != nil {
		t.Fatal(err)
	}
	w.isSetUp(example)
}
