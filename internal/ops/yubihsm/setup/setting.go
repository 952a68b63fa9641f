package setup

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"privyseal/internal/cli"
	"privyseal/internal/key/yubihsm/provision"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/terminal"
)

// setting is one device that is set up.
type setting struct {
	app *cli.App
	tty string // the path of the terminal

	io.Writer
	given  func(flag string) bool
	person *person // at the terminal, nil for none

	device    provision.Device
	restore   bool
	wordsFile string
	dir       string
	serial    string
	old       reach.Login
}

// check refuses flags that cannot be meant, and opens the terminal if it is needed.
func (s *setting) check() error {
	switch {
	case s.device.Address == "":
		return cli.Usagef(`--device is missing: the address of the device, as "privyseal yubihsm detect" shows it`)
	case s.wordsFile != "" && !s.restore:
		return cli.Usagef("--words-file goes with --restore: new words are shown at the terminal alone")
	}
	if err := reach.CheckAddress("device", s.device.Address); err != nil {
		return err
	}
	if s.serial != "" {
		if _, err := number(s.serial); err != nil {
			return cli.Usagef("--serial: %w", err)
		}
	}
	if reach.IsOpen(s.device.Address) && !strings.HasPrefix(s.device.Address, "https:") {
		return cli.Usagef("--device %s is not on this host: whoever reads along on the network would learn all secrets, since everybody knows the password of a device that is empty; set it up where it is plugged in", s.device.Address)
	}
	t, err := terminal.Open(s.tty, os.Getenv("TERM"))
	if err != nil {
		if s.wordsFile == "" {
			return cli.Usagef("this needs a terminal: the words go through no pipe and into no log: %w", err)
		}
		if s.given("auth-key") && s.old.File == "" {
			return cli.Usagef("--password-file is missing: there is no terminal to ask for the password of --auth-key")
		}
		return nil
	}
	s.person = &person{t}
	return nil
}

// number reads a serial number, which may have leading zeros.
func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.40q is not a serial number, which has up to 10 digits", text)
	}
	return uint32(n), nil
}
