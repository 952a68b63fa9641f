package reach_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
)

const head = `listen = ""
[log]
level = "info"
format = "text"
[[chain]]
id = "chain-1"
provider = "yubihsm"
yubihsm = "main"
key = "keys/chain-1.yubihsm"
state = "state/chain-1.mark"
node = [ { addr = "unix:///run/node/privval.sock" } ]
`

const least = "[yubihsm.main]\ndevice = [\"http://127.0.0.1:12345\"]\nauth_key = 4\npassword_file = \"password\"\n"

// Every mistake in a [yubihsm.NAME] is an error with its line.
func TestConfigMistakes(t *testing.T) {
	device := func(list string) string {
		return head + strings.Replace(least, `["http://127.0.0.1:12345"]`, list, 1)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"good":                {head + least, ""},
		"several":             {device(`["usb://0012345678", "http://127.0.0.1:12345", "http://hsm.test:12345"]`), ""},
		"the only one":        {device(`["usb://"]`), ""},
		"no section":          {head, "there is no [yubihsm.main]"},
		"a section twice":     {head + least + least, "first on line"},
		"no name":             {strings.Replace(head, "yubihsm = \"main\"\n", "", 1) + least, "yubihsm is missing: the name of a"},
		"another provider":    {strings.Replace(head, `provider = "yubihsm"`, `provider = "soft"`, 1) + least, `yubihsm is for the provider "yubihsm"`},
		"an unknown key":      {head + least + "auth_kye = 1\n", "did you mean auth_key?"},
		"the password itself": {head + least + "password = \"x\"\n", "unknown key yubihsm.main.password"},
		"no device":           {head + "[yubihsm.main]\nauth_key = 4\npassword_file = \"p\"\n", "device is missing"},
		"an empty list":       {device(`[]`), "device is empty"},
		"no list":             {device(`"usb://"`), `want device = ["…", …]`},
		"an empty device":     {device(`[""]`), "is not an address of a YubiHSM"},
		"another scheme":      {device(`["127.0.0.1:12345"]`), "is not an address of a YubiHSM"},
		"a serial in words":   {device(`["usb://mine"]`), "is not a serial number"},
		"one twice":           {device(`["usb://1", "usb://1"]`), `device has "usb://1" twice`},
		"no auth key":         {head + strings.Replace(least, "auth_key = 4\n", "", 1), "auth_key is missing"},
		"auth key 0":          {head + strings.Replace(least, "auth_key = 4", "auth_key = 0", 1), "auth_key is not from 1 to 65535"},
		"auth key 65535":      {head + strings.Replace(least, "auth_key = 4", "auth_key = 65535", 1), ""},
		"auth key 65536":      {head + strings.Replace(least, "auth_key = 4", "auth_key = 65536", 1), "auth_key is not from 1 to 65535"},
		"no password":         {head + strings.Replace(least, "password_file = \"password\"\n", "", 1), "password_file is missing"},
		"an empty password":   {head + strings.Replace(least, `"password"`, `""`, 1), "password_file is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := reachtest.Kinds.Parse("privyseal.toml", []byte(tt.text))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			var mistakes *config.Error
			if errors.As(err, &mistakes) && mistakes.Problems[0].Line == 0 {
				t.Errorf("no line: %v", err)
			}
		})
	}
}

// What is written is what was read.
func TestRender(t *testing.T) {
	for _, text := range []string{
		head + least,
		head + strings.Replace(least, `["http`, `["usb://1", "http`, 1),
	} {
		c, err := reachtest.Kinds.Parse("privyseal.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := reachtest.Kinds.Parse("privyseal.toml", c.Render())
		if err != nil {
			t.Fatalf("%v\n%s", err, c.Render())
		}
		a, b := c.Tables[reach.Table]["main"].(*reach.Set), again.Tables[reach.Table]["main"].(*reach.Set)
		if !slices.Equal(a.Device, b.Device) || a.AuthKey != b.AuthKey || a.PasswordFile != b.PasswordFile {
			t.Errorf("%+v became %+v", a, b)
		}
		if names := config.ChangedTables(c, again); len(names) > 0 {
			t.Errorf("changed: %q", names)
		}
	}
}
