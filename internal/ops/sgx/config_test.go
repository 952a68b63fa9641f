package sgx

import (
	"errors"
	"strings"
	"testing"

	"privyseal/internal/config"
)

// Every mistake in an [sgx.NAME], and in a chain that has one, is an error with its line.
// What all tables have in common is in cmd/privyseal.
func TestConfigMistakes(t *testing.T) {
	kinds := config.Kinds{{Provider: "soft"}, func() config.Kind { k := Kind(); k.Provider = "sgx"; return k }(), {Store: "file"}}
	const head = `listen = ""
[log]
level = "info"
format = "text"
[[chain]]
id = "chain-1"
provider = "sgx"
sgx = "main"
key = "keys/chain-1.sealed"
state = "state/chain-1.mark"
node = [ { addr = "unix:///run/node/privval.sock" } ]
`
	const least = "[sgx.main]\nfolder = \"enclave\"\n"
	chain := func(line string) string { return head + line + "\n" + least }
	tcp := strings.Replace(head, "unix:///run/node/privval.sock", "tcp://192.0.2.1:26659", 1)
	for name, tt := range map[string]struct{ text, want string }{
		"good":                 {head + least, ""},
		"all keys":             {head + least + "gramine_sgx = \"/usr/bin/gramine-sgx\"\ncollateral = \"platform.json\"\n", ""},
		"no section":           {head, "there is no [sgx.main]"},
		"a section twice":      {head + least + least, "duplicate sgx.main, first on line 12"},
		"a path in the name":   {head + "[sgx.\"a/b\"]\nfolder = \"x\"\n", `"a/b" is not the name of an enclave`},
		"no folder":            {head + "[sgx.main]\n", "sgx main: folder is missing: folder of the signed enclave"},
		"an empty folder":      {head + "[sgx.main]\nfolder = \"\"\n", "sgx main: folder is empty"},
		"an empty launcher":    {head + least + "gramine_sgx = \"\"\n", "gramine_sgx is empty"},
		"empty collateral":     {head + least + "collateral = \"\"\n", "collateral is empty"},
		"a key of Nitro":       {head + least + "cid = 16\n", "unknown key sgx.main.cid"},
		"a bound of heights":   {chain("max_height = 7"), "max_height of a chain in an enclave is in the measured policy of the enclave"},
		"sign bytes":           {chain("allow_sign_bytes = true"), "allow_sign_bytes of a chain in an enclave is in the measured policy"},
		"raw bytes":            {chain("allow_raw_bytes = true"), "allow_raw_bytes of a chain in an enclave is in the measured policy"},
		"raw bytes, not":       {chain("allow_raw_bytes = false"), "allow_raw_bytes of a chain in an enclave is in the measured policy"},
		"tcp, and no identity": {tcp + least, `then add identity = "identity.sealed"`},
		"tcp":                  {tcp + "identity = \"identity.sealed\"\n" + least, ""},
		"of another provider":  {strings.Replace(head, `provider = "sgx"`, `provider = "soft"`, 1) + least, `sgx is for the provider "sgx"`},
		"two chains of one id": {head + least + strings.NewReplacer("[[chain]]", "[[chain]]\nname = \"b\"", "chain-1.", "b.").Replace(head[strings.Index(head, "[[chain]]"):]), `enclave main signs for the id chain-1 already`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kinds.Parse("privyseal.toml", []byte(tt.text))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			var mistakes *config.Error
			if errors.As(err, &mistakes) && (len(mistakes.Problems) != 1 || mistakes.Problems[0].Line == 0) {
				t.Errorf("want one problem with its line: %v", err)
			}
		})
	}
}

// What is written is what was read, and what is absent has its default.
func TestRender(t *testing.T) {
	kinds := config.Kinds{{Provider: "soft"}, Kind(), {Store: "file"}}
	for _, want := range []Enclave{
		{Folder: "enclave", GramineSGX: DefaultGramine},
		{Folder: "a \"b\"", GramineSGX: "/opt/gramine-sgx", Collateral: "platform.json"},
	} {
		c := kinds.New()
		c.Tables = enclaves.Tables("main", want)
		text := string(c.Render())
		text = text[strings.Index(text, "[sgx.main]"):]
		text, _, _ = strings.Cut(text, "[[chain]]")
		again, err := kinds.Parse("privyseal.toml", []byte("[[chain]]\nid = \"c\"\nprovider = \"soft\"\nkey = \"k\"\nstate = \"s\"\nnode = [ { addr = \"unix:///n\" } ]\n"+text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got := enclaves.Of(again)["main"]; got != want {
			t.Errorf("%+v became %+v", want, got)
		}
	}
	if e := enclaves.New(); e != (Enclave{GramineSGX: DefaultGramine}) {
		t.Errorf("new: %+v", e)
	}
}
