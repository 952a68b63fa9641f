package cli

import (
	"os"
	"testing"
)

// What rooms print that know of no home becomes what an operator of this one types; what
// is only spoken of, or is typed elsewhere, stays.
func TestInHome(t *testing.T) {
	a := &App{HomeFlag: "it's a home/", AtHome: []string{"nitro stop", "sgx recover", "yubihsm attest"}}
	const home = ` --home 'it'\''s a home'`
	for text, want := range map[string]string{
		"end it with `privyseal nitro stop`, and try again":            "end it with `privyseal nitro stop" + home + "`, and try again",
		"`privyseal status` says why":                                  "`privyseal status" + home + "` says why",
		"`privyseal init --chain-id c --node ADDR --after-height H`":   "`privyseal init --chain-id c --node ADDR --after-height H" + home + "`",
		"no key\nfirst: `privyseal state import --chain-id c FILE`":    "no key\nfirst: `privyseal state import --chain-id c FILE" + home + "`",
		"`privyseal start --standby` or `privyseal check`":             "`privyseal start --standby" + home + "` or `privyseal check" + home + "`",
		"`privyseal init --provider nitro …`":                          "`privyseal init --provider nitro" + home + " …`",
		"it comes back with `privyseal sgx recover`":                   "it comes back with `privyseal sgx recover" + home + "`",
		"again: `privyseal yubihsm attest --key-id 0x0001 --out f …`":  "again: `privyseal yubihsm attest --key-id 0x0001 --out f" + home + " …`",
		"not of this build: `privyseal yubihsm attested`":              "not of this build: `privyseal yubihsm attested`",
		"encrypt it again, with `privyseal sgx open-backup`":           "encrypt it again, with `privyseal sgx open-backup`",
		"stop the `privyseal start` that has it":                       "stop the `privyseal start` that has it",
		"what `privyseal state export` writes":                         "what `privyseal state export` writes",
		"see `privyseal state raise --help`":                           "see `privyseal state raise --help`",
		"`privyseal state adopt --home x --chain-id c`":                "`privyseal state adopt --home x --chain-id c`",
		"as of `privyseal key seal`, or `privyseal nitro build --out`": "as of `privyseal key seal`, or `privyseal nitro build --out`",
		"`rm privyseal status` and ` privyseal status":                 "`rm privyseal status` and ` privyseal status",
		"": "",
	} {
		if got := a.InHome(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if got := a.InHome(want); got != want {
			t.Errorf("twice: %q", got)
		}
		if got := (&App{}).InHome(text); got != text {
			t.Errorf("without a home: %q", got)
		}
	}
}

// The command line with another word of what a key has signed.
func TestInstead(t *testing.T) {
	defer func(before []string) { os.Args = before }(os.Args)
	words := map[string]bool{"--fresh": false, "--state": true}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"init", "--state", "a b", "--home", "h"}, "privyseal init --home h --after H"},
		{[]string{"init", "--state=a b", "--fresh", "--home=h h"}, "privyseal init '--home=h h' --after H"},
		{[]string{"--fresh=true", "init", "--", "--state", "f"}, "privyseal init --after H -- --state f"},
		{[]string{"init", "--state"}, "privyseal init --after H"},
	} {
		os.Args = append([]string{"/bin/privyseal"}, tt.args...)
		if got := Instead(words, "--after H"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}
