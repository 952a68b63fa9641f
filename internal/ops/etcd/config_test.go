package etcd

import (
	"errors"
	"strings"
	"testing"

	"privyseal/internal/config"
)

// Every mistake in an [etcd.NAME] is an error with its line. What all tables have in common
// is in cmd/privyseal, and the flags have stories of their own.
func TestConfigMistakes(t *testing.T) {
	kinds := config.Kinds{{Provider: "soft"}, {Store: "file"}, func() config.Kind { k := kind(); k.Store = table; return k }()}
	const head = `listen = ""
[log]
level = "info"
format = "text"
[[chain]]
id = "chain-1"
provider = "soft"
key = "keys/chain-1.key"
store = "etcd"
etcd = "main"
state = "state/chain-1.mark"
node = [ { addr = "unix:///run/node/privval.sock" } ]
`
	const plain, files = "[etcd.main]\n", "ca_file = \"ca.pem\"\ncertificate_file = \"c.pem\"\nkey_file = \"k.pem\"\n"
	at := func(list string, more ...string) string {
		return head + plain + "endpoints = [" + list + "]\n" + strings.Join(more, "")
	}
	ten := strings.Repeat(`"http://127.0.0.1:2379", `, 10)
	for name, tt := range map[string]struct{ text, want string }{
		"good":                  {at(`"https://a:2379", "https://b:2379"`, files), ""},
		"plain on loopback":     {at(`"http://127.0.0.1:2379", "http://localhost:2380", "http://[::1]:2381"`), ""},
		"plain":                 {at(`"http://192.0.2.1:2379"`), "has no TLS"},
		"plain by a name":       {at(`"http://localhost.evil.example:2379"`), "has no TLS"},
		"plain, in words":       {at(`"http://192.0.2.1:2379"`, "allow_plain_http = true\n"), ""},
		"no section":            {head, "there is no [etcd.main]"},
		"no endpoints":          {head + plain + files, "endpoints is missing: https://HOST:PORT of each member"},
		"empty":                 {at("", files), "endpoints is empty"},
		"too many":              {at(ten), "has 10 members, more than 9"},
		"one twice":             {at(`"http://127.0.0.1:2379", "http://127.0.0.1:2379"`), `has "http://127.0.0.1:2379" twice`},
		"no port":               {at(`"https://a"`, files), "has no port; etcd's is 2379"},
		"a path":                {at(`"https://a:2379/v3"`, files), "is not https://HOST:PORT, and nothing more"},
		"a password":            {at(`"https://user:s3cr3t@a:2379"`, files), "is not https://HOST:PORT, and nothing more"},
		"another scheme":        {at(`"unix://a:2379"`, files), "does not begin with https://"},
		"both schemes":          {at(`"https://a:2379", "http://127.0.0.1:2379"`, files), "has https:// and http://; choose one"},
		"no certificate":        {at(`"https://a:2379"`, "ca_file = \"ca.pem\"\nkey_file = \"k.pem\"\n"), "certificate_file is missing"},
		"files without TLS":     {at(`"http://127.0.0.1:2379"`, "ca_file = \"ca.pem\"\n"), "ca_file has no effect with http://"},
		"a relative prefix":     {at(`"http://127.0.0.1:2379"`, "prefix = \"privyseal\"\n"), "prefix is not a path"},
		"a prefix with a slash": {at(`"http://127.0.0.1:2379"`, "prefix = \"/privyseal/\"\n"), "prefix is not a path"},
		"a prefix that leaves":  {at(`"http://127.0.0.1:2379"`, "prefix = \"/a/../b\"\n"), "prefix is not a path"},
		"a long prefix":         {at(`"http://127.0.0.1:2379"`, "prefix = \"/"+strings.Repeat("a", 200)+"\"\n"), "prefix is not a path"},
		"less than the least":   {at(`"http://127.0.0.1:2379"`, "try = \"99ms\"\n"), "try is not from 100ms to 1s"},
		"more than the most":    {at(`"http://127.0.0.1:2379"`, "try = \"1001ms\"\n"), "try is not from 100ms to 1s"},
		"of another store":      {strings.Replace(at(`"http://127.0.0.1:2379"`), "store = \"etcd\"\n", "", 1), `etcd is for the store "etcd"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kinds.Parse("privyseal.toml", []byte(tt.text))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Error("a password is printed: ", err)
			}
			var mistakes *config.Error
			if errors.As(err, &mistakes) && mistakes.Problems[0].Line == 0 {
				t.Errorf("no line: %v", err)
			}
		})
	}
}
