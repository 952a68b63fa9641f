package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// State is the state of one chain and its key, in whatever store, as the operator's side
// meets it. Its errors are [StateError]s where one of the reasons below applies.
type State interface {
	// Open takes the state for a signer of this process. Where a store lets one signer at a
	// time have it, a second one gets ErrLocked, and ErrTwin with another state of the same
	// chain and key on this host; wait waits for the first to end, until ctx does.
	Open(ctx context.Context, wait bool) (watermark.Store, error)
	// Inspect looks at it and changes nothing, also while a signer has it.
	Inspect(ctx context.Context) (Info, error)
	// Create makes it where there is none, and never anything in place of one: ErrExists.
	Create(ctx context.Context, first watermark.Saved) error
	// Raise brings it to a mark, and never lowers it: ErrBelow. An exported one lives again
	// then.
	Raise(ctx context.Context, to watermark.Saved) error
}

// Mover is a [State] that can end, for another one to go on, and be taken back into use.
type Mover interface {
	// Export ends it for every signer, durably, and returns what it held. Again it returns
	// the same.
	Export(ctx context.Context) (watermark.Saved, error)
	// Adopt accepts one whose bytes were put there by something else (ErrCopied, ErrRestored),
	// or beside which another one was on this host (ErrBeside), at the highest mark that is
	// known of it.
	Adopt(ctx context.Context) error
}

// Joiner is a [State] that several hosts share. One of them makes it, and each other one
// joins it: what it keeps of the state itself is made then.
type Joiner interface {
	// Join makes what this host keeps, out of what is there: ErrMissing, ErrExported. On a host
	// that has joined it changes nothing.
	Join(ctx context.Context) error
}

// Asker is a [Joiner] that keeps on this host what it has seen, and finds out only with effort
// what is there: Inspect says the first.
type Asker interface {
	Ask(ctx context.Context) (Info, error)
}

// Info is what a store says about a state. What a store does not have is zero.
type Info struct {
	ID    watermark.ID
	Saved watermark.Saved
	// Exported says that it was handed on, and is dead.
	Exported bool
	// Newest is what Adopt would raise it to. Ended says that Adopt would refuse.
	Newest watermark.Saved
	Ended  bool
	// Problem is why Open would refuse it, or nil.
	Problem error
	// Instance names this very state, in hexadecimal, for as long as it exists.
	Instance string

	// Shared is of a state that several hosts share, nil of any other.
	Shared *SharedInfo

	// The following are of a state in a file.

	Mode       fs.FileMode
	Filesystem string
	// Bound says that it is bound to this machine and this file.
	Bound bool
	// Torn says that one copy of a record is bad, and that its twin is used.
	Torn bool
}

// SharedInfo is what is known of a state that several hosts share.
type SharedInfo struct {
	// Writer and Own name, in hexadecimal, the host that wrote it last and this one: "" before
	// it has joined.
	Writer, Own string
	// Index and Term are where the database stands, 0 where it has no such thing, and Members
	// is how many it has.
	Index, Term uint64
	Members     int
	Known       watermark.Mark // what this host has seen, without sign bytes
}

// Why a state is refused, whatever its store.
var (
	ErrLocked   = errors.New("another process has the state")
	ErrTwin     = errors.New("another signer on this host has another state of the same chain and key")
	ErrMissing  = errors.New("there is no state")
	ErrExists   = errors.New("there is a state already")
	ErrUnsafe   = errors.New("the state is not safe to use")
	ErrDamaged  = errors.New("the state is damaged")
	ErrForeign  = errors.New("the state belongs to another chain or key")
	ErrCopied   = errors.New("the state was copied or restored")
	ErrRestored = errors.New("the state was restored or changed by another program")
	ErrBeside   = errors.New("this host has signed with another state of this key")
	ErrExported = errors.New("the state was exported")
	ErrBelow    = errors.New("the mark is below the one in the state")
	ErrUnjoined = errors.New("this host has not joined the state")
	ErrClone    = errors.New("another signer has the identity of this host")
	ErrSplit    = errors.New("this host has the state in another database")
	ErrPlace    = errors.New("this host knows the state at another place of the database")
	ErrAway     = errors.New("the database of the state does not answer")
)

// StateRefused reports whether a state, or a request to it, is refused until an operator
// acts. Whoever has it locked may end by itself.
func StateRefused(err error) bool {
	for _, reason := range []error{
		ErrSplit, ErrPlace, ErrMissing, ErrExists, ErrUnsafe, ErrDamaged, ErrForeign, ErrCopied, ErrRestored, ErrBeside, ErrExported, ErrBelow, ErrUnjoined, ErrClone,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// StateError is why a state is not used, or a request to it refused.
type StateError struct {
	Reason error  // one of the above
	Err    error  // the same in the words of the store
	Cure   string // what to do next, for the chain by its name and in its home; "" if nobody knows
}

// Error returns what the store says, and the cure on a line of its own.
func (e *StateError) Error() string {
	if e.Cure == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n" + e.Cure
}

func (e *StateError) Unwrap() []error { return []error{e.Reason, e.Err} }

// Explained gives an error its reason and the next step that a signer elsewhere has had with a
// state which is open here, and has said so in words.
func Explained(open watermark.Store, err error) error {
	if state, ok := open.(interface{ Explain(err error) error }); ok && err != nil {
		return state.Explain(err)
	}
	return err
}

// Place is a chain whose state is asked for.
type Place struct {
	config.Chain
	// Section is the table of the store that the chain names, nil where the store has none.
	Section config.Section
	// Path returns where a path of the config is; that of "." is the home folder.
	Path func(string) string
	// Tables are all of the config, those that come with a new chain included.
	Tables map[string]map[string]config.Section
}

// Members is how a database is reached by who signs elsewhere than in this process, and has
// this host carry the bytes.
type Members struct {
	Try time.Duration // for one endpoint

	// A database that knows who signs by a certificate:
	Endpoints        []string // https://HOST:PORT
	Certificate, Key string   // paths; the key is as who signs has it

	// A table of AWS, which knows it by credentials:
	Role            Role   // nil: it is none
	Table, Instance string // which one it is, for people, and its TableId, "" where the config has none
}

// Role is who may use a table of AWS. It keeps what it finds.
type Role interface {
	Credentials(ctx context.Context) (secret.AWS, error)
	// Refused says that AWS does not accept these any more.
	Refused(c secret.AWS)
}

// Carried is a section of the config of a database that is reached like that.
type Carried interface {
	config.Section
	Members(path func(string) string) Members
}

// Reacher is a [Holder] whose signers reach the state of a chain themselves, where hosts
// share it.
type Reacher interface {
	// Reach returns the state as this host has it, in place of what its store has. The
	// section of the store is a [Carried].
	Reach(at Place, id watermark.ID, kept Kept) Kept
}

// Unreached returns an error where signers reach the state of a chain themselves, as a
// [Reacher] says, and cannot reach this one, which hosts share.
func (t Table) Unreached(ch config.Chain, kept Kept) error {
	e, _ := t.Of(ch)
	_, reaches := e.Holder.(Reacher)
	_, asked := kept.State.(Asker)
	if !reaches || !kept.Shared || asked {
		return nil
	}
	return cli.Actf("the state of chain %q cannot be in %s: %s does not reach that; keep it in another store", ch.Name, kept.Where, e.Writer)
}

// ReachedBy returns the stores, with the states of chains whose provider is a [Reacher] as
// that has them.
func (s Stores) ReachedBy(t Table) Stores {
	all := slices.Clone(s)
	for i, store := range s {
		all[i].State = func(at Place, id watermark.ID) Kept {
			kept := store.State(at, id)
			if _, carried := at.Section.(Carried); !carried {
				return kept
			}
			e, err := t.Of(at.Chain)
			if r, ok := e.Holder.(Reacher); ok && err == nil {
				return r.Reach(at, id, kept)
			}
			return kept
		}
	}
	return all
}

// Kept is the state of a chain where its store keeps it.
type Kept struct {
	State
	// Where names that for people, as the path of a file.
	Where string
	// Files are what Create makes on this host. A command that takes back what it made
	// removes them, if the state is as Create made it.
	Files []string
	// Shared says that signers of other hosts raise the mark too, all at the same time. Else
	// the state is one signer's.
	Shared bool
	// Prepare finds out, before a state begins there, whether this host may do all that a
	// signer does, and which database it is: this process accepts no other one from then on.
	// pin is the line by which the config says so too, "" if it has it. nil: there is nothing
	// to be found out.
	Prepare func(ctx context.Context) (pin string, err error)
}

// Store is one store of this build.
type Store struct {
	Name string // as `store` of a chain has it

	// Kind is what the config has of it. Its Store is Name.
	Kind config.Kind
	// State returns the state of a chain and a key. With the zero id it is only looked at.
	// What is kept on this host lies where the chain's key `state` says, or beside it.
	State func(at Place, id watermark.ID) Kept
	// Flags adds the flags of `privyseal init` by which a new chain names one of its tables, or
	// has one made, as [cli.TableFlags] do; nil: it has no tables.
	Flags func(fl *pflag.FlagSet) cli.Pick
	// Check adds rows to `privyseal check`, about its own tables of the config and what they
	// lead to; nil: there are none.
	Check func(ctx context.Context, r *Report)
	// Look asks each member of the database in one of its tables how it does, beside all signing,
	// until ctx ends at the latest; nil: there are no members.
	Look func(ctx context.Context, c *config.Config, name string) Cluster
}

// Stores is all stores of a build. A chain that names none has the first one.
type Stores []Store

// Kinds returns what a config has of the stores.
func (s Stores) Kinds() config.Kinds {
	kinds := make(config.Kinds, len(s))
	for i, store := range s {
		kinds[i] = store.Kind
		kinds[i].Store = store.Name
	}
	return kinds
}

// Names returns the names of all stores, as a list to read.
func (s Stores) Names() string {
	names := make([]string, len(s))
	for i, store := range s {
		names[i] = store.Name
	}
	return list(names)
}

// Has reports whether there is a store of a name.
func (s Stores) Has(name string) bool {
	return slices.ContainsFunc(s, func(store Store) bool { return store.Name == name })
}

// Table returns the first name of a store's tables, "" if it has none.
func (s Stores) Table(name string) string {
	for _, store := range s {
		if store.Name == name {
			return store.Kind.Table
		}
	}
	return ""
}

// of returns the store of a chain.
func (s Stores) of(ch config.Chain) (Store, error) {
	for _, store := range s {
		if ch.Store == store.Name || ch.Store == "" {
			return store, nil
		}
	}
	return Store{}, fmt.Errorf("store %q is not in this build", ch.Store)
}

// Look returns how the members of a chain's store are asked, nil where there are none.
func (s Stores) Look(ch config.Chain) func(ctx context.Context, c *config.Config, name string) Cluster {
	store, err := s.of(ch)
	if err != nil {
		return nil
	}
	return store.Look
}

// State returns the state of a chain of a config, and of a key. The config was checked, so
// that there is a store.
func (s Stores) State(c *config.Config, ch config.Chain, id watermark.ID) (Kept, error) {
	return s.StateIn(c.Tables, c.Path, ch, id)
}

// StateIn does the same for a chain that no config has yet. tables are those that are there
// or come with it, path is where a path of the config lies.
func (s Stores) StateIn(tables map[string]map[string]config.Section, path func(string) string, ch config.Chain, id watermark.ID) (Kept, error) {
	store, err := s.of(ch)
	if err != nil {
		return Kept{}, err
	}
	at := Place{Chain: ch, Path: path, Tables: tables}
	if table := store.Kind.Table; table != "" {
		if at.Section = tables[table][ch.StoreTable]; at.Section == nil {
			return Kept{}, fmt.Errorf("there is no [%s.%s]", table, ch.StoreTable)
		}
	}
	return store.State(at, id), nil
}
