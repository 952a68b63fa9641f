// Package provider is the contract between the operator's side and the rooms that hold
// keys: who holds the key of a chain, what can be known of it without signing, and, for
// keys that this process signs with, how it is opened.
//
// A provider is a room below internal/key (the device or service), a room below
// internal/ops (this contract), and a line in cmd/privyseal/house.go. Nothing here
// names one.
package provider

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// Key signs for one chain, in this process or through it.
type Key interface {
	crypto.Signer
	PublicKey() pubkey.Key
	// Close takes the secret out of memory, or ends the session with whoever has it. No
	// signature is asked for afterwards.
	Close() error
}

// Lasting reports whether an error of a key's Sign does not pass until an operator has acted,
// as one that says that another key is in its place. There is one in its chain then with a
// method Lasting.
func Lasting(err error) bool {
	var lasting interface {
		error
		Lasting() bool
	}
	return errors.As(err, &lasting) && lasting.Lasting()
}

// Holder is a provider, as far as all of them are alike. It reads files only: no device
// or service is asked, and a signer may run meanwhile.
type Holder interface {
	// Public returns the public key of a chain.
	Public(c *config.Config, ch config.Chain) (pubkey.Key, error)
	// Identity returns the public half of the key by which nodes know the chain's signer.
	// The chain has one.
	Identity(c *config.Config, ch config.Chain) (pubkey.Key, error)
}

// Local is a Holder whose keys this process signs with. Its identities are key files
// ([Files]), its states bare marks.
type Local interface {
	Holder
	// Open returns the key of a chain. It is called at a start and at a reload, at the same
	// time for several chains, and again after an error that may pass (cli.ActError says
	// that it will not). What the key has to say later on goes to the log of ctx (oplog.Of).
	Open(ctx context.Context, c *config.Config, ch config.Chain) (Key, error)
}

// Checker is a Holder that adds rows to `privyseal check`, about its own sections of the
// config and what they lead to.
type Checker interface {
	Check(ctx context.Context, r *Report)
}

// StateKeeper is a Holder whose states are not bare marks: what is in them only the one
// who signs can make and judge.
type StateKeeper interface {
	// Shown returns the mark in a state, for people.
	Shown(m watermark.Mark) watermark.Mark
	// Accepts refuses a state that was not written for a chain of this provider.
	Accepts(m watermark.Mark) error
	// Lost says how the state of a chain comes back that is missing or, if damaged, cannot
	// be read.
	Lost(c *config.Config, ch config.Chain, damaged bool) string
	// CheckState adds rows about a state that was read.
	CheckState(r *Report, line int, m watermark.Mark)
}

// Entry is one provider of this build.
type Entry struct {
	Name  string // as the config and --provider have it
	Where string // who holds the key, as in "an AWS Nitro Enclave"
	// Types are the types of its keys, and NoOther says why it has no others, "" where it
	// simply has none.
	Types   []pubkey.Type
	NoOther string
	// Form says what files of its keys hold beside a plain key, as in "wrapped".
	Form string
	// Imported says what a file still holds from which a key was imported.
	Imported string
	// Writer is who writes its states, where that is a [StateKeeper].
	Writer string
	// AtHome are its commands that work on a home folder, as in "nitro stop": where one is
	// printed to be typed, the home in use goes with it.
	AtHome []string
	// Unit is the systemd unit that serves it; "" is privyseal.
	Unit string

	// Kind is what the config has of it. Its Provider is Name.
	Kind config.Kind

	Holder
}

// Has returns an error if the provider has no keys of a type.
func (e Entry) Has(t pubkey.Type) error {
	if slices.Contains(e.Types, t) {
		return nil
	}
	names := make([]string, len(e.Types))
	for i, t := range e.Types {
		names[i] = string(t)
	}
	why := ""
	if e.NoOther != "" {
		why = ": " + e.NoOther
	}
	return cli.Usagef("provider %s has no %s keys%s; it has %s", e.Name, t, why, list(names))
}

// Table is all providers of a build, in the order in which help has them.
type Table []Entry

// Of returns the provider of a chain. The config was checked, so that there is one.
func (t Table) Of(ch config.Chain) (Entry, error) {
	for _, e := range t {
		if e.Name == ch.Provider {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("provider %q is not in this build, which has %s", ch.Provider, t.Names())
}

// Names returns the names of all providers, as a list to read.
func (t Table) Names() string { return t.list(func(e Entry) string { return e.Name }) }

// Help returns all providers with who holds the key, as a list to read.
func (t Table) Help() string {
	return t.list(func(e Entry) string { return e.Name + " (" + e.Where + ")" })
}

func (t Table) list(text func(Entry) string) string {
	texts := make([]string, len(t))
	for i, e := range t {
		texts[i] = text(e)
	}
	return list(texts)
}

// list returns words as a list to read.
func list(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Kinds returns what a config has of the providers.
func (t Table) Kinds() config.Kinds {
	kinds := make(config.Kinds, len(t))
	for i, e := range t {
		kinds[i] = e.Kind
		kinds[i].Provider = e.Name
	}
	return kinds
}

// AtHome returns the commands of all providers that work on a home folder.
func (t Table) AtHome() (commands []string) {
	for _, e := range t {
		commands = append(commands, e.AtHome...)
	}
	return commands
}

// Local returns the provider of a chain that this process signs for.
func (t Table) Local(ch config.Chain) (Local, bool) {
	e, _ := t.Of(ch)
	local, ok := e.Holder.(Local)
	return local, ok
}

// Keeper returns the provider of a chain whose state is not a bare mark.
func (t Table) Keeper(ch config.Chain) (StateKeeper, bool) {
	e, _ := t.Of(ch)
	keeper, ok := e.Holder.(StateKeeper)
	return keeper, ok
}

// Public returns the public key of a chain. A failure waits for an operator.
func (t Table) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	e, err := t.Of(ch)
	if err != nil {
		return pubkey.Key{}, err
	}
	key, err := e.Public(c, ch)
	if err != nil {
		return pubkey.Key{}, cli.Act(err)
	}
	return key, nil
}

// Identity returns the public half of a chain's identity. A failure waits for an operator.
func (t Table) Identity(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	e, err := t.Of(ch)
	if err != nil {
		return pubkey.Key{}, err
	}
	key, err := e.Identity(c, ch)
	if err != nil {
		return pubkey.Key{}, cli.Act(err)
	}
	return key, nil
}

// Shown returns the mark in the state of a chain, for people.
func (t Table) Shown(ch config.Chain, m watermark.Mark) watermark.Mark {
	if keeper, ok := t.Keeper(ch); ok {
		return keeper.Shown(m)
	}
	return m
}
