package dynamodb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/config"
)

var kinds = config.Kinds{{Provider: "soft"}, {Store: "file"}, func() config.Kind { k := kind(); k.Store = name; return k }()}

const head = `listen = ""
[log]
level = "info"
format = "text"
[[chain]]
id = "chain-1"
provider = "soft"
key = "keys/chain-1.key"
store = "dynamodb"
dynamodb = "main"
state = "state/chain-1.mark"
node = [ { addr = "unix:///run/node/privval.sock" } ]
`

const least = "[dynamodb.main]\ntable = \"marks\"\nregion = \"eu-central-1\"\n"

const keys = "[dynamodb.main.credentials]\naccess_key_id = \"AKIA\"\nsecret_access_key = \"s3cr3t\"\n"

// with returns the least table with other values of some keys.
func with(pairs ...string) string {
	text := least
	for i := 0; i < len(pairs); i += 2 {
		lines := strings.SplitAfter(text, "\n")
		text = ""
		for _, line := range lines {
			if !strings.HasPrefix(line, pairs[i]+" =") {
				text += line
			}
		}
		text += pairs[i] + " = " + pairs[i+1] + "\n"
	}
	return head + text
}

// Every mistake in a [dynamodb.NAME] is an error with its line.
func TestConfigMistakes(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"good":                     {head + least, ""},
		"all keys":                 {with("table_id", `"11111111-0000-4000-8000-000000000001"`, "endpoint", `"https://vpce-1.dynamodb.eu-central-1.vpce.amazonaws.com"`, "try", `"1s"`) + keys + "session_token = \"t\"\n", ""},
		"no section":               {head, "there is no [dynamodb.main]"},
		"another section":          {head + strings.Replace(least, "main", "other", 1), "there is no [dynamodb.main]"},
		"a section twice":          {head + least + least, "first on line"},
		"no name":                  {strings.Replace(head, "dynamodb = \"main\"\n", "", 1) + least, "dynamodb is missing: the name of a"},
		"another store":            {strings.Replace(head, "store = \"dynamodb\"\n", "", 1) + least, `dynamodb is for the store "dynamodb"`},
		"an unknown key":           {with("tabel", `"x"`), "did you mean table?"},
		"a number":                 {with("table", "1"), "table"},
		"no table":                 {head + "[dynamodb.main]\nregion = \"eu-central-1\"\n", "table is missing: name of the table"},
		"no region":                {head + "[dynamodb.main]\ntable = \"marks\"\n", "region is missing: region of AWS"},
		"an empty table":           {with("table", `""`), "table is empty"},
		"a short table":            {with("table", `"ab"`), "table is not the name of a table"},
		"a long table":             {with("table", `"`+strings.Repeat("a", 256)+`"`), "table is not the name of a table"},
		"the longest table":        {with("table", `"`+strings.Repeat("a", 255)+`"`), ""},
		"an ARN":                   {with("table", `"arn:aws:dynamodb:eu-central-1:1:table/marks"`), "table is not the name of a table"},
		"a city":                   {with("region", `"Frankfurt"`), "region is not a region like eu-central-1"},
		"a zone":                   {with("region", `"eu-central-1a"`), "region is not a region like eu-central-1"},
		"a host":                   {with("region", `"eu-central-1.evil.example/"`), "region is not a region like eu-central-1"},
		"a region of China":        {with("region", `"cn-north-1"`), ""},
		"a region of a government": {with("region", `"us-gov-west-1"`), ""},
		"an odd id":                {with("table_id", `"a b"`), "table_id is not a TableId, as `aws dynamodb describe-table` prints it"},
		"an empty id":              {with("table_id", `""`), "table_id is empty"},
		"no scheme":                {with("endpoint", `"dynamodb.eu-central-1.amazonaws.com"`), "endpoint is not https://HOST or https://HOST:PORT, and nothing more"},
		"a path":                   {with("endpoint", `"https://host/path"`), "endpoint is not https://HOST"},
		"a query":                  {with("endpoint", `"https://host?x=1"`), "endpoint is not https://HOST"},
		"a user":                   {with("endpoint", `"https://user:pass@host"`), "endpoint is not https://HOST"},
		"another scheme":           {with("endpoint", `"ftp://host"`), "endpoint does not begin with https://"},
		"a cache":                  {with("endpoint", `"dax://marks.l6fzcv.dax-clusters.eu-central-1.amazonaws.com"`), "endpoint is a DAX cluster"},
		"plain":                    {with("endpoint", `"http://10.0.0.1:8000"`), "endpoint has no TLS"},
		"plain by a name":          {with("endpoint", `"http://localhost.evil.example"`), "endpoint has no TLS"},
		"plain, in words":          {with("endpoint", `"http://10.0.0.1:8000"`, "allow_plain_http", "true"), ""},
		"plain on loopback":        {with("endpoint", `"http://127.0.0.1:8000"`), ""},
		"no time":                  {with("try", `"0s"`), "try is not from 50ms to 2s"},
		"less than a round trip":   {with("try", `"49ms"`), "try is not from 50ms to 2s"},
		"too much time":            {with("try", `"2001ms"`), "try is not from 50ms to 2s"},
		"the least time":           {with("try", `"50ms"`), ""},
		"half of the credentials":  {head + least + strings.Replace(keys, "secret_access_key = \"s3cr3t\"\n", "", 1), "credentials.secret_access_key is missing"},
		"a secret without a name":  {head + least + strings.Replace(keys, "access_key_id = \"AKIA\"\n", "", 1), "credentials.access_key_id is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kinds.Parse("privyseal.toml", []byte(tt.text))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "user:pass")) {
				t.Error("a secret is told: ", err)
			}
			var mistakes *config.Error
			if errors.As(err, &mistakes) && mistakes.Problems[0].Line == 0 {
				t.Errorf("no line: %v", err)
			}
		})
	}
}

// What is written is what was read, and absent keys have their defaults.
func TestRender(t *testing.T) {
	for _, text := range []string{
		head + least,
		with("table_id", `"11111111-0000-4000-8000-000000000001"`, "endpoint", `"http://10.0.0.1:8000"`, "allow_plain_http", "true", "try", `"1.5s"`),
		head + least + keys,
		head + least + keys + "session_token = \"t\"\n",
	} {
		c, err := kinds.Parse("privyseal.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := kinds.Parse("privyseal.toml", c.Render())
		if err != nil {
			t.Fatalf("%v:\n%s", err, c.Render())
		}
		if string(again.Render()) != string(c.Render()) || len(config.ChangedTables(c, again)) > 0 {
			t.Errorf("%s\n%s", c.Render(), again.Render())
		}
	}
	c, err := kinds.Parse("privyseal.toml", []byte(head+least))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(c.Render()), "\n# try = \"400ms\" # how long") {
		t.Errorf("%s", c.Render())
	}
}

// A config with a secret is for its owner alone.
func TestModeOfASecret(t *testing.T) {
	for text, want := range map[string]bool{head + least: true, head + least + keys: false} {
		path := filepath.Join(t.TempDir(), "privyseal.toml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := kinds.Load(path); (err == nil) != want {
			t.Error(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := kinds.Load(path); err != nil {
			t.Error(err)
		}
	}
}
