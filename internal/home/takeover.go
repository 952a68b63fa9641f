package home

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/migrate"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

// Taker is what a provider has of `privyseal migrate`, for keys of old signers that are in
// no key file.
type Taker interface {
	// Add adds the flags that are the provider's own.
	Add(cmd *cobra.Command)
	// Takes reports whether the key of an old chain is for this provider.
	Takes(c migrate.Chain) bool
	// Idle finds what is wrong with the flags where no key is for this provider.
	Idle() error
	// Take takes over a chain.
	Take(cmd *cobra.Command, in *Installer, old *migrate.Installation, c migrate.Chain, t *TakeOver) error
}

// TakeOver is what `privyseal migrate` was asked for, whoever has the key.
type TakeOver struct {
	Witness WitnessFlag
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
	if len(c.KeyFiles()) == 1 { // no command takes parts of a key
		g.AtHeight = func() string { return t.byHand(ch, takeKey, "--after-height H") }
		g.Take = func(path string) string { return t.byHand(ch, takeKey, "--import-state "+shell.Word(path)) }
	}
	if t.DryRun { // what would be refused whatever the word
		g.Yes, g.Shown = true, io.Discard
	}
	return g.Admit(in, Here{Beside: Beside(ch.ID, public, []string{c.KeyFile})})
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
