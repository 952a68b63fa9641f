package reach_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
)

// said is what flags come to: an error and its cure, or places.
func said(w *reachtest.World, places []reach.Place, err error) string {
	if err != nil {
		what, next := cure.Split(err.Error())
		return strings.TrimSuffix(what+" -> "+next, " -> ")
	}
	var b strings.Builder
	for _, p := range places {
		fmt.Fprintf(&b, "%s %v as %d by %s, %d chains; ", p.Table, p.Devices, p.Login.ID, strings.TrimPrefix(p.Login.File, w.Dir+"/"), len(p.Chains()))
	}
	return b.String()
}

// parsed are the flags of a command, as it was typed.
func parsed(t *testing.T, add func(*cobra.Command), args []string) {
	t.Helper()
	cmd := &cobra.Command{Use: "x"}
	add(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
}

const role = "an authentication key that may do this"

// What is typed says where a command works: as the signer, or as an administrator.
func TestFlags(t *testing.T) {
	w := reachtest.New(t, 2)
	w.Provision(7, yubihsmtest.Ed25519, 1)
	w.Install(7)
	all := fmt.Sprintf("[%s %s]", w.Devices[0], w.Devices[1])
	one := "[" + w.Devices[0] + "]"
	two := []string{"--auth-key", "0x0002", "--password-file", w.Path("two")}
	for name, tt := range map[string]struct {
		args                  []string
		signer, administrator string
	}{
		"nothing":     {nil, "main " + all + " as 4 by four, 1 chains; ", "--auth-key is missing: the object id of " + role},
		"devices":     {w.AsAdministrator(), " " + all + " as 2 by two, 0 chains; ", " " + all + " as 2 by two, 0 chains; "},
		"who we are":  {two, "--device is missing: --device, --auth-key and --password-file go together", "main " + all + " as 2 by two, 1 chains; "},
		"no password": {two[:2], "--device is missing: --device, --auth-key and --password-file go together", "--password-file is missing: a file with the password of authentication key 0x0002"},
		"a table":     {[]string{"--yubihsm", "main"}, "main " + all + " as 4 by four, 1 chains; ", "--auth-key is missing: the object id of " + role},
		"no table":    {append(two, "--yubihsm", "x"), "--yubihsm is for devices of the config, and --auth-key for others", "--yubihsm: there is no [yubihsm.x] in a config of this home"},
		"one device":  {append(two, "--device", w.Devices[0]), " " + one + " as 2 by two, 0 chains; ", " " + one + " as 2 by two, 0 chains; "},
		"one twice": {append(two, "--device", "usb://1", "--device", "usb://1"), `--device has "usb://1" twice`,
			`--device has "usb://1" twice`},
		"an id that is none": {append(two, "--device", "usb://1", "--auth-key", "65536"), "--auth-key is not from 1 to 65535", "--auth-key is not from 1 to 65535"},
	} {
		t.Run(name, func(t *testing.T) {
			var s reach.Signer
			parsed(t, s.Add, tt.args)
			places, err := s.Places(w.House().App)
			if got := said(w, places, err); got != tt.signer {
				t.Errorf("the signer: %s, want %s", got, tt.signer)
			}
			var a reach.Administrator
			parsed(t, func(cmd *cobra.Command) { a.Add(cmd, role) }, tt.args)
			place, err := a.Place(w.House().App)
			if got := said(w, []reach.Place{place}, err); got != tt.administrator {
				t.Errorf("an administrator: %s, want %s", got, tt.administrator)
			}
		})
	}
}

// Without a home folder the flags have the devices, or there are none.
func TestFlagsWithoutAHome(t *testing.T) {
	w := reachtest.New(t, 1)
	w.Home = ""
	t.Setenv("PRIVYSEAL_HOME", "")
	var s reach.Signer
	parsed(t, s.Add, nil)
	places, err := s.Places(w.House().App)
	if got := said(w, places, err); got != "no home folder, and no devices -> add --home DIR, or --device, --auth-key and --password-file" {
		t.Error(got)
	}
	var a reach.Administrator
	parsed(t, func(cmd *cobra.Command) { a.Add(cmd, role) }, []string{"--auth-key", "2", "--password-file", "two"})
	if _, err := a.Place(w.House().App); err == nil || err.Error() != "--device is missing: there is no [yubihsm.NAME] in a config of this home" {
		t.Error(err)
	}
	if p, err := a.Signer(w.House().App); err != nil || p.Config != nil {
		t.Errorf("%+v, %v", p, err)
	}
	parsed(t, s.Add, w.AsSigner())
	places, err = s.Places(w.House().App)
	if got := said(w, places, err); got != " ["+w.Devices[0]+"] as 4 by four, 0 chains; " {
		t.Error(got)
	}
}
