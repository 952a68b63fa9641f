package home

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/migrate"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

// Taker is what a provider has of `privyseal migrate`, for keys of old signers that are in
// no key file. It is a [ChainTaker] or a [KeyTaker].
type Taker interface {
	// Add adds the flags that are the provider's own.
	Add(cmd *cobra.Command)
	// Takes reports whether the key of an old chain is for this provider.
	Takes(c migrate.Chain) bool
	// Idle finds what is wrong with the flags where no key is for this provider.
	Idle() error
}

// ChainTaker takes over a chain as a whole. There is no other one in its installation.
type ChainTaker interface {
	Taker
	// Take takes over a chain.
	Take(cmd *cobra.Command, in *Installer, old *migrate.Installation, c migrate.Chain, t *TakeOver) error
}

// KeyTaker takes over keys that this process signs with. Their chains are installed
// together with the others of the installation.
type KeyTaker interface {
	Taker
	// TakeKey fills in who holds the key of a chain: Provider, Key, Public, Files and
	// Tables, and in Make what else has to be made here. Until then it only reads,
	// wherever the key is. It returns the words of `privyseal init` that take the key.
	TakeKey(ctx context.Context, in *Installer, c migrate.Chain, ch *Chain) (words []string, err error)
}

// Takers are those of all providers of a build.
type Takers []Taker

// Of returns whose the key of a chain is, nil for the key of a file.
func (ts Takers) Of(c migrate.Chain) Taker {
	for _, taker := range ts {
		if taker.Takes(c) {
			return taker
		}
	}
	return nil
}

// Idle finds what is wrong with the flags of those who take none of these chains.
func (ts Takers) Idle(chains []migrate.Chain) error {
	for _, taker := range ts {
		if slices.ContainsFunc(chains, taker.Takes) {
			continue
		}
		if err := taker.Idle(); err != nil {
			return err
		}
	}
	return nil
}

// TakeKey fills in where the key of a chain comes from, and returns the words of
// `privyseal init` that take it.
func (ts Takers) TakeKey(ctx context.Context, in *Installer, c migrate.Chain, ch *Chain) ([]string, error) {
	if c.Key != nil {
		return []string{"--import-key", c.KeyFile}, nil
	}
	taker, ok := ts.Of(c).(KeyTaker)
	if !ok {
		return nil, fmt.Errorf("the chain %s signs with %s, and this build has no provider for that", c.ID, c.Origin())
	}
	words, err := taker.TakeKey(ctx, in, c, ch)
	if err == nil && ch.SoftIdentity != nil && ch.SoftIdentity.PublicKey().Equal(ch.PublicKey()) {
		err = fmt.Errorf("the identity key of chain %s, %s, is the validator key itself, which must sign no handshakes; name another one in the config of the old signer", c.ID, c.IdentityFile)
	}
	return words, err
}

// TakeOver is what `privyseal migrate` was asked for, whoever has the key.
type TakeOver struct {
	Witness []string
	Words   Words
	Name    string   // of its one chain here; "" is the id
	Nodes   []string // that no config of the old signer names
	Fresh   bool     // confirm that a key has never signed, where the old state says so
	DryRun  bool
}

// Gate takes the state of the old signer through the gate. takeKey are the words of
// `privyseal init` that take the key over.
func (t *TakeOver) Gate(cmd *cobra.Command, source string, c migrate.Chain, ch config.Chain, public pubkey.Key, takeKey ...string) error {
	in := Incoming{Chain: ch.Name, Mark: c.Mark, Written: c.Written, Unsigned: c.Unsigned, From: fmt.Sprintf("%s, the state of %s", c.StateFile, source)}
	if t.Fresh && c.Mark.IsZero() {
		in.Origin = FromNothing
	}
	g := t.Words.Gate(cmd, ch, t.Fresh)
	if len(c.KeyFiles()) < 2 { // no command takes parts of a key
		g.AtHeight = func() string { return t.byHand(ch, takeKey, "--after-height H") }
		g.Take = func(path string) string { return t.byHand(ch, takeKey, "--import-state "+shell.Word(path)) }
	}
	if t.DryRun { // what would be refused whatever the word
		g.Yes, g.Shown = true, io.Discard
	}
	return g.Admit(in, Here{Beside: Beside(ch.ID, public, []string{cmp.Or(c.KeyFile, c.StateFile)})})
}

// byHand returns the command line that takes over key and nodes of a chain, with
// another word of what the key has signed.
func (t *TakeOver) byHand(ch config.Chain, takeKey []string, word string) string {
	words := []string{"--chain-id", ch.ID}
	if ch.Name != ch.ID {
		words = append(words, "--name", ch.Name)
	}
	for _, n := range ch.Nodes {
		words = append(words, "--node", n.Name+"="+n.Addr)
	}
	words = append(words, takeKey...)
	for i := range words {
		words[i] = shell.Word(words[i])
	}
	return t.Words.House.Line("init %s %s", strings.Join(words, " "), word)
}

// PrintSteps prints the closing list.
func PrintSteps(w io.Writer, steps []string) {
	fmt.Fprintln(w, "\nthen, in this order:")
	for i, s := range steps {
		fmt.Fprintf(w, "%2d. %s\n", i+1, s)
	}
}
