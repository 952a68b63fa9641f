package vault

import (
	"errors"
	"strings"
	"testing"

	"privyseal/internal/config"
)

var kinds = config.Kinds{{Provider: "soft"}, func() config.Kind { k := Kind(); k.Provider = "vault"; return k }()}

const head = `listen = ""
[log]
level = "info"
format = "text"
[[chain]]
id = "chain-1"
provider = "vault"
vault = "main"
key = "keys/chain-1.vault"
state = "state/chain-1.mark"
node = [ { addr = "unix:///run/node/privval.sock" } ]
`

const least = "[vault.main]\naddress = \"https://vault.test:8200\"\ntoken_file = \"token\"\n"

// Every mistake in a [vault.NAME] is an error with its line.
func TestConfigMistakes(t *testing.T) {
	role := strings.Replace(least, `token_file = "token"`, "role_id = \"r\"\nsecret_id_file = \"s\"", 1)
	for name, tt := range map[string]struct{ text, want string }{
		"good":                   {head + least, ""},
		"a role":                 {head + role, ""},
		"all keys":               {head + role + "ca_file = \"ca.pem\"\nserver_name = \"x\"\nnamespace = \"a/b\"\nmount = \"m\"\napprole_mount = \"r\"\ntimeout = \"2s\"\n", ""},
		"no section":             {head, "there is no [vault.main]"},
		"another section":        {head + strings.Replace(least, "main", "other", 1), "there is no [vault.main]"},
		"a section twice":        {head + least + least, "first on line"},
		"no name":                {strings.Replace(head, "vault = \"main\"\n", "", 1) + least, "vault is missing: the name of a"},
		"another provider":       {strings.Replace(head, `provider = "vault"`, `provider = "soft"`, 1) + least, `vault is for the provider "vault"`},
		"a provider that is not": {strings.Replace(head, `provider = "vault"`, `provider = "vaults"`, 1) + least, `provider`},
		"an unknown key":         {head + least + "tokn_file = \"x\"\n", "did you mean token_file?"},
		"another case":           {head + least + "Mount = \"x\"\n", "unknown key"},
		"a secret in the file":   {head + least + "token = \"s.x\"\n", "unknown key vault.main.token"},
		"a number":               {head + least + "mount = 1\n", "mount"},
		"no address":             {head + "[vault.main]\ntoken_file = \"token\"\n", "address is missing"},
		"plain":                  {head + strings.Replace(least, "https:", "http:", 1), "http:// is accepted for loopback addresses only"},
		"plain, in words":        {head + strings.Replace(least, "https:", "http:", 1) + "allow_plain_http = true\n", ""},
		"plain on loopback":      {head + strings.Replace(least, "https://vault.test", "http://127.0.0.1", 1), ""},
		"an empty mount":         {head + least + "mount = \"\"\n", "mount is empty"},
		"no time":                {head + least + "timeout = \"0s\"\n", "timeout is not above 0"},
		"too much time":          {head + least + "timeout = \"3s\"\n", "timeout is not above 0 and at most 2s"},
		"nobody":                 {head + "[vault.main]\naddress = \"https://vault.test\"\n", "token_file or role_id and secret_id_file are needed"},
		"both":                   {head + role + "token_file = \"x\"\n", "token_file or role_id and secret_id_file are needed"},
		"half a role":            {head + "[vault.main]\naddress = \"https://vault.test\"\nrole_id = \"r\"\n", "role_id and secret_id_file go together"},
		"a role's mount":         {head + least + "approle_mount = \"x\"\n", "approle_mount goes with role_id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kinds.Parse("privyseal.toml", []byte(tt.text))
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
		head + "[vault.main]\naddress = \"http://vault.test\"\nallow_plain_http = true\nrole_id = \"r\"\nsecret_id_file = \"s\"\nca_file = \"\"\n",
		head + "[vault.main]\naddress = \"https://vault.test\"\nca_file = \"ca.pem\"\nserver_name = \"x\"\nnamespace = \"a/b\"\nmount = \"m\"\nrole_id = \"r\"\nsecret_id_file = \"s\"\napprole_mount = \"q\"\ntimeout = \"1.5s\"\n",
	} {
		text = strings.Replace(text, "ca_file = \"\"\n", "", 1)
		c, err := kinds.Parse("privyseal.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := kinds.Parse("privyseal.toml", c.Render())
		if err != nil {
			t.Fatalf("%v\n%s", err, c.Render())
		}
		if a, b := *c.Tables[table]["main"].(*Server), *again.Tables[table]["main"].(*Server); a != b {
			t.Errorf("%+v became %+v", a, b)
		}
		if names := config.ChangedTables(c, again); len(names) > 0 {
			t.Errorf("changed: %q", names)
		}
	}
}
