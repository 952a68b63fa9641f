package sharedstate

import (
	"errors"
	"fmt"
	"os"

	"privyseal/internal/cure"
	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// reasons are what the operator's side branches on, and what a mark or a floor has for it.
var reasons = []struct{ of, state error }{
	{sharedmark.ErrMissing, provider.ErrMissing},
	{sharedmark.ErrUnjoined, provider.ErrUnjoined},
	{sharedmark.ErrExists, provider.ErrExists},
	{sharedmark.ErrForeign, provider.ErrForeign},
	{sharedmark.ErrDamaged, provider.ErrDamaged},
	{sharedmark.ErrRestored, provider.ErrRestored},
	{sharedmark.ErrOther, provider.ErrRestored},
	{sharedmark.ErrPlace, provider.ErrPlace},
	{sharedmark.ErrExported, provider.ErrExported},
	{sharedmark.ErrTwin, provider.ErrClone},
	{sharedmark.ErrBelow, provider.ErrBelow},
	{filestore.ErrLocked, provider.ErrLocked},
	{filestore.ErrTwin, provider.ErrTwin},
	{filestore.ErrUnsafe, provider.ErrUnsafe},
	{filestore.ErrDamaged, provider.ErrDamaged},
	{filestore.ErrForeign, provider.ErrForeign},
	{filestore.ErrCopied, provider.ErrCopied},
	{filestore.ErrRestored, provider.ErrRestored},
	{filestore.ErrBelow, provider.ErrBelow},
	{filestore.ErrMissing, provider.ErrMissing},
}

// explain gives an error its reason and the next step. Others, as that nobody answers, may pass.
func (p place) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*provider.StateError](err); done {
		return err
	}
	for _, r := range reasons {
		if errors.Is(err, r.of) {
			return &provider.StateError{Reason: r.state, Err: p.inWords(err), Cure: p.next(err)}
		}
	}
	return &provider.StateError{Reason: provider.ErrAway, Err: p.inWords(err)}
}

// beside refuses a mark for what this host has signed with another state of the chain and key.
func (p place) beside(why string) error {
	return &provider.StateError{Reason: provider.ErrBeside, Err: fmt.Errorf("%s: %w: %s", p.where, provider.ErrBeside, why),
		Cure: "end that other home for good, and then: " + cure.Command("privyseal", "state", "adopt", "--home", p.home, "--chain-id", p.chain)}
}

// elsewhere refuses a state for one that this host has in another database.
func (p place) elsewhere(other *alive) error {
	path := shell.Word(other.floor)
	next := fmt.Sprintf("if it has ended there, have this host see that: `privyseal start` with that database in the config; if that database is gone for good: `mv %s %s`, and reboot this host", path, path+".old")
	if _, err := os.Lstat(other.floor); err != nil {
		next = "if that database is gone for good: reboot this host, so that it forgets"
	}
	return &provider.StateError{Reason: provider.ErrSplit, Err: fmt.Errorf("%s: %w: by %s it %s", p.where, provider.ErrSplit, path, other.why), Cure: next}
}

// below refuses a mark that is below the one at which the state has ended elsewhere.
func (p place) below(m, ended watermark.Mark) error {
	if !m.Less(ended) {
		return nil
	}
	return p.beside(fmt.Sprintf("it is at %v, and has ended at %v in another database", m, ended))
}

// tooLow refuses to make or raise a state below that one.
func (p place) tooLow(m, ended watermark.Mark) error {
	return &provider.StateError{Reason: provider.ErrBelow, Err: fmt.Errorf("%s: %w: %v, and the state has ended at %v in another database", p.where, provider.ErrBelow, m, ended)}
}

// inWords says of which mark err is. An error of the floor's file has its path, and its cure
// is for a file with a mark.
func (p place) inWords(err error) error {
	if e, ok := errors.AsType[*filestore.Error](err); ok {
		own := *e
		own.Cure = ""
		return fmt.Errorf("what this host has seen of the shared mark: %w", &own)
	}
	return fmt.Errorf("%s: %w", p.where, err)
}

// place is whose error it is: a chain by its name, its home folder, the file of its floor,
// and where the mark is.
type place struct{ chain, home, floor, where string }

// next says what to do about an error.
func (p place) next(err error) string {
	command := func(name string, words ...string) string {
		return cure.Command(append([]string{"privyseal", "state", name, "--home", p.home, "--chain-id", p.chain}, words...)...)
	}
	again := fmt.Sprintf("`mv %s %s`, and then %s", shell.Word(p.floor), shell.Word(p.floor+".old"), command("join"))
	own := "if no copy of this folder signs, and nothing was signed since this one was made: " + command("adopt")
	adopt := "see with " + command("show") + " on each host what it has seen, and then run, first on the host that has seen most and after it on each other one, " + command("adopt")
	for _, c := range []struct {
		is   error
		cure string
	}{
		{sharedmark.ErrDamaged, "find out what wrote there; then end every signer of this key, delete it from the database, " + adopt},
		{sharedmark.ErrMissing, "run " + command("init", "--fresh-state") + " if this key has never signed for this chain, " + command("import", "FILE") + " if its state was exported elsewhere, or else " +
			command("init", "--after-height", "H") + " with a height H well above everything that the chain has reached"},
		{sharedmark.ErrUnjoined, "share it with the signers that have it: " + command("join")},
		{sharedmark.ErrExists, "look at it with " + command("show") + "; another host shares it with " + command("join") + ", or with --join-state as its chain is made"},
		{sharedmark.ErrForeign, "give it a prefix of its own in the config, or correct chain id and key; nothing that another program wrote is overwritten"},
		{sharedmark.ErrPlace, "if the prefix in the config was changed, correct it; if the state was moved there by " + command("export") + " and " + command("import", "FILE") + ": " + again},
		{sharedmark.ErrRestored, "if endpoints, prefix or table in the config were changed, correct them; if this is the database to go on with: end every signer of this key, " + adopt},
		{sharedmark.ErrOther, "if this is the one to go on with: end every signer of this key, write its id into the config of each host, " + adopt},
		{sharedmark.ErrExported, "bring it back with " + command("import", "FILE") + " from the host that has it now, or follow it to the store that it was moved to"},
		{sharedmark.ErrTwin, "end one of the two signers for good; if both are to go on, run on the host that is a copy of the other, while its signer is stopped: " + again},
		{filestore.ErrLocked, "stop the `privyseal start` that has it open, or wait for it with `privyseal start --standby`"},
		{filestore.ErrTwin, "end the other `privyseal start`, of another home or a copy of this one, for good"},
		{filestore.ErrCopied, own},
		{filestore.ErrRestored, own},
		{filestore.ErrDamaged, "if the database was not restored meanwhile: " + again},
		{filestore.ErrForeign, "correct chain id, key or state in the config; if they are right: " + again},
	} {
		if errors.Is(err, c.is) {
			return c.cure
		}
	}
	if e, ok := errors.AsType[*filestore.Error](err); ok {
		return e.Cure
	}
	return ""
}
