package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/pubkey"
)

// says reports an error whose text does not hold what it should; "" is no error.
func says(t *testing.T, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func TestHome(t *testing.T) {
	for _, c := range []struct{ flag, variable, want, wrong string }{
		{"/a/", "", "/a", ""},
		{"/a", "/b", "/a", ""},
		{"", "/b/../c", "/c", ""},
		{"", "", "", "no home folder\nadd --home DIR"},
	} {
		t.Setenv("PRIVYSEAL_HOME", c.variable)
		a := &App{HomeFlag: c.flag}
		dir, err := a.Home()
		says(t, c.flag, err, c.wrong)
		if dir != c.want || a.HomeNamed() != (c.want != "") {
			t.Errorf("%q, %q: %q, %t", c.flag, c.variable, dir, a.HomeNamed())
		}
		if _, usage := errors.AsType[UsageError](err); usage != (err != nil) {
			t.Errorf("%v is no wrong usage", err)
		}
	}
}

// What is printed is to be typed for the home that was named, and for no other one twice.
func TestCommandsForTheHome(t *testing.T) {
	const text = "`privyseal status`, `privyseal start`, `privyseal nitro stop …`, `privyseal check --home /b`, `privyseal status --help`, `chmod 0600 f` and `privyseal state raise --after-height H`"
	for home, want := range map[string]string{
		"":      text,
		"/a b/": "`privyseal status --home '/a b'`, `privyseal start`, `privyseal nitro stop --home '/a b' …`, `privyseal check --home /b`, `privyseal status --help`, `chmod 0600 f` and `privyseal state raise --after-height H --home '/a b'`",
	} {
		a := &App{HomeFlag: home, AtHome: []string{"nitro stop"}}
		if got := a.InHome(text); got != want {
			t.Errorf("%q: %s", home, got)
		}
	}
	if got := (&App{HomeFlag: "/a/"}).Command("start --x %d", 1); got != "`privyseal start --x 1 --home /a`" {
		t.Error(got)
	}
	// A backtick that nothing ends begins no command, and one that ends a command does not
	// begin the next.
	for _, text := range []string{"`x` and `privyseal status", "`x`privyseal status`y`"} {
		if got := (&App{HomeFlag: "/a"}).InHome(text); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func TestOwner(t *testing.T) {
	dir := t.TempDir()
	uid, gid, known := Owner(dir)
	if !known || uid != os.Geteuid() || gid < 0 {
		t.Errorf("%d, %d, %t", uid, gid, known)
	}
	if _, _, known := Owner(filepath.Join(dir, "none")); known {
		t.Error("the owner of nothing is known")
	}
	says(t, "our own", (&App{HomeFlag: dir}).CheckOwner(), "")
	says(t, "not there", (&App{HomeFlag: filepath.Join(dir, "none")}).CheckOwner(), "")
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder to another user: run make test as root")
	}
	if err := os.Chown(dir, 4321, 1234); err != nil {
		t.Fatal(err)
	}
	says(t, "by flag", (&App{HomeFlag: dir}).CheckOwner(), "belongs to user 4321, who could not use files that user 0 creates there\nrun it again with `sudo -u '#4321'` in front")
	t.Setenv("PRIVYSEAL_HOME", dir)
	says(t, "by variable", (&App{}).CheckOwner(), "`sudo -u '#4321' env PRIVYSEAL_HOME="+dir+"`")
}

func writeConfig(t *testing.T, chains ...string) *App {
	t.Helper()
	dir, text := t.TempDir(), ""
	for i, name := range chains {
		id, name, _ := strings.Cut(name, "=")
		text += fmt.Sprintf("[[chain]]\nid = %q\n", id)
		if name != "" {
			text += fmt.Sprintf("name = %q\n", name)
		}
		text += fmt.Sprintf("provider = \"a\"\nkey = \"k%d\"\nstate = \"s%d\"\nnode = [{addr = \"unix:///n%d\"}]\n", i, i, i)
	}
	if len(chains) > 0 {
		if err := os.WriteFile(filepath.Join(dir, config.FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &App{HomeFlag: dir, Kinds: config.Kinds{{Provider: "a"}}}
}

func TestConfig(t *testing.T) {
	none := writeConfig(t)
	if c, err := none.ExistingConfig(); c != nil || err != nil {
		t.Errorf("none: %v, %v", c, err)
	}
	_, err := none.Config()
	if _, bad := errors.AsType[ConfigError](err); !bad || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	wrong := writeConfig(t, "not an id")
	for _, load := range []func() (*config.Config, error){wrong.Config, wrong.ExistingConfig} {
		c, err := load()
		if _, bad := errors.AsType[ConfigError](err); !bad || c != nil {
			t.Errorf("wrong: %v, %v", c, err)
		}
	}
	good := writeConfig(t, "x")
	for _, load := range []func() (*config.Config, error){good.Config, good.ExistingConfig} {
		if c, err := load(); err != nil || len(c.Chains) != 1 {
			t.Errorf("good: %v, %v", c, err)
		}
	}
	t.Setenv("PRIVYSEAL_HOME", "")
	if c, err := (&App{}).ExistingConfig(); c != nil || err != nil {
		t.Errorf("no home: %v, %v", c, err)
	}
}

func TestChooseChain(t *testing.T) {
	one, several := []string{"x"}, []string{"x=first", "x=second", "y"}
	for _, c := range []struct {
		chains      []string
		flag        string
		name, wrong string
	}{
		{one, "", "x", ""},
		{one, "x", "x", ""},
		{one, "z", "", "chain \"z\" is not in the config, which has x\nadd it with `privyseal init --chain-id z --node ADDR --home "},
		{several, "", "", "there are several chains\nadd --chain-id with one of first, second, y"},
		{several, "x", "", "x is the id of several chains\nadd --chain-id with one of their names: first, second"},
		{several, "second", "second", ""},
		{several, "y", "y", ""},
	} {
		f := &ChainFlag{ID: c.flag}
		_, ch, err := f.Choose(writeConfig(t, c.chains...))
		says(t, c.flag, err, c.wrong)
		if ch.Name != c.name {
			t.Errorf("%q of %v: %q", c.flag, c.chains, ch.Name)
		}
	}
	many := make([]config.Chain, 12)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	for n, want := range map[int]string{0: "", 1: "0", 10: "0, 1, 2, 3, 4, 5, 6, 7, 8, 9", 12: "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2 more"} {
		if got := ChainNames(many[:n]); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// tree is a program with a group of two commands, one with flags of each kind.
func tree() (root, leaf *cobra.Command) {
	run := func(*cobra.Command, []string) error { return nil }
	leaf = &cobra.Command{Use: "raise FILE", Args: Arguments("FILE"), RunE: run, PreRunE: NoEmptyFlags}
	leaf.Flags().Int64("number", 0, "")
	AddHeight(leaf, new(int64), "height", "")
	leaf.Flags().String("chain-id", "", "")
	leaf.Flags().StringArray("node", nil, "")
	leaf.Flags().Bool("yes", false, "")
	leaf.Flags().Duration("wait", 0, "")
	leaf.Flags().String("chain-ib", "", "")
	for _, name := range []string{"of-chain", "of-node", "many-cats", "many-dogs", "many-cows", "many-hens"} {
		leaf.Flags().String(name, "", "")
	}
	if err := leaf.Flags().MarkHidden("chain-ib"); err != nil {
		panic(err)
	}
	leaf.SetFlagErrorFunc(FlagError)
	group := NewGroup("state", "States", leaf, &cobra.Command{Use: "show", Args: AtMostOne("FILE"), RunE: run})
	root = &cobra.Command{Use: "privyseal", SilenceErrors: true, SilenceUsage: true, RunE: ShowHelp, Args: NoCommand}
	root.AddCommand(group)
	root.SetHelpCommand(NewHelp())
	root.SetOut(&strings.Builder{})
	return root, leaf
}

func TestCommandLines(t *testing.T) {
	for line, wrong := range map[string]string{
		"state raise f":                              "",
		"state raise":                                "FILE is missing\n`privyseal state raise FILE [flags]`",
		"state raise f g":                            "unexpected argument \"g\"\nsee `privyseal state raise --help`",
		"state show":                                 "",
		"state show f":                               "",
		"state show f g":                             "unexpected argument \"g\"",
		"state":                                      "",
		"state rais":                                 "unknown command \"privyseal state rais\"\ndid you mean `privyseal state raise`? see `privyseal state --help`",
		"state nothing":                              "unknown command \"privyseal state nothing\"\nsee `privyseal state --help`",
		"help state":                                 "",
		"help state nothing":                         "unknown command \"privyseal state nothing\"",
		"state raise f --chain-id=":                  "--chain-id is empty\nleave it out",
		"state raise f --chain-id x":                 "",
		"state raise f --node a --node=":             "--node is empty",
		"state raise f --node a --node b":            "",
		"state raise f --chainid x":                  "unknown flag: --chainid\ndid you mean --chain-id? see `privyseal state raise --help`",
		"state raise f --chain-ibx y":                "did you mean --chain-id? ",
		"state raise f --chain x":                    "unknown flag: --chain\ndid you mean --chain-id? see `privyseal state raise --help`",
		"state raise f --of x":                       "unknown flag: --of\ndid you mean --of-chain or --of-node? see `privyseal state raise --help`",
		"state raise f --many x":                     "unknown flag: --many\nsee `privyseal state raise --help`",
		"state raise f --something":                  "unknown flag: --something\nsee `privyseal state raise --help`",
		"state raise f --number high":                "--number \"high\" is not a number\nsee",
		"state raise f --height high":                "--height: \"high\" is not a height\nsee",
		"state raise f --height 0":                   "--height: \"0\" is not a height",
		"state raise f --height -5":                  "--height: \"-5\" is not a height",
		"state raise f --height 1":                   "",
		"state raise f --height 4611686018427387904": "",
		"state raise f --height 4611686018427387905": "--height: \"4611686018427387905\" is not a height",
		"state raise f --yes=maybe":                  "--yes \"maybe\" is not true or false",
		"state raise f --wait long":                  "--wait \"long\" is not a value",
		"state raise f --height -- --height":         "--height: \"--\" is not a height",
	} {
		root, _ := tree()
		root.SetArgs(strings.Fields(line))
		err := root.Execute()
		says(t, line, err, wrong)
		if _, usage := errors.AsType[UsageError](err); err != nil && !usage {
			t.Errorf("%s: %v is no wrong usage", line, err)
		}
	}
	for line, wrong := range map[string]string{
		"state nothing --help":      "unknown command \"privyseal state nothing\"",
		"state raise nothing":       "",
		"state --help":              "",
		"state --unknown x":         "",
		"nothing --help":            "unknown command \"privyseal nothing\"",
		"__complete state nothing ": "",
	} {
		root, _ := tree()
		says(t, line, NoSuchCommand(root, strings.Fields(line)), wrong)
	}
}

func TestReadBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for limit, wrong := range map[int64]string{4: path + " has more than 4 bytes", 5: "", 6: ""} {
		data, err := ReadBounded(path, limit)
		says(t, fmt.Sprint(limit), err, wrong)
		if err == nil && string(data) != "12345" {
			t.Errorf("%d: %q", limit, data)
		}
	}
	if _, err := ReadBounded(filepath.Join(dir, "none"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	// A pipe that nobody writes to keeps nobody waiting.
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadBounded(fifo, 5); err != nil || len(data) != 0 {
		t.Errorf("fifo: %q, %v", data, err)
	}
	says(t, "flag", OfFlag("eif", fs.ErrNotExist), "--eif: file does not exist")
}

func TestWriteNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	says(t, "new", WriteNew(path, []byte("first"), 0o600), "")
	err := WriteNew(path, []byte("second"), 0o600)
	says(t, "there", err, path+" already exists, and nothing is overwritten")
	if _, usage := errors.AsType[UsageError](err); !usage || !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if data, err := os.ReadFile(path); string(data) != "first" {
		t.Errorf("%q, %v", data, err)
	}
	missing := WriteNew(filepath.Join(path, "g"), nil, 0o600)
	if _, usage := errors.AsType[UsageError](missing); usage || missing == nil {
		t.Errorf("below a file: %v", missing)
	}
}

// A type of keys that there is none of is refused where it is typed, with those that there are.
func TestKeyType(t *testing.T) {
	for text, wrong := range map[string]string{"": "", "secp256k1": "", "rsa": `--type: unknown key type "rsa": it is one of ed25519, secp256k1, secp256k1eth, ml_dsa_65`, "bls12_381": "--type: the key type bls12_381 is not supported"} {
		cmd, got := &cobra.Command{}, pubkey.Ed25519
		AddKeyType(cmd, &got, "type", "type of the key")
		err := cmd.ParseFlags([]string{"--type", text})
		if err != nil {
			err = FlagError(cmd, err)
		}
		says(t, text, err, wrong)
		want := pubkey.Type(text)
		if wrong != "" {
			want = pubkey.Ed25519
		}
		if got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
