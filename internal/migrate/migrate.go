// Package migrate reads the installations of other signers: their keys, their
// states and their connections, as far as privyseal has a place for them.
//
// It only reads: it writes, deletes and dials nothing. What it returns is for
// the caller to write, and for the operator to check. It trusts the files in
// that they are the operator's own, but not that they are whole: a state has to
// be there, to have stopped changing, and, where it holds what was signed, to
// belong to the chain and the key.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"privyseal/internal/migrate/lightsgx"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// DefaultSettle is longer than the pause between two signatures on most chains.
const DefaultSettle = 10 * time.Second

// Sources returns the names of the signers that [Read] knows.
func Sources() []string { return []string{"cometbft", "tmkms", "tmkms-light", "cosmos-kms", "horcrux"} }

// Place says which installation is meant.
type Place struct {
	Source string   // one of [Sources]
	Paths  []string // one, or with horcrux one or more
	// Nodes are addresses of nodes beside those of the installation, with horcrux.
	Nodes []string
	// SGX is what opens the key of tmkms-light's SGX provider, with tmkms-light.
	SGX SGXBackup
}

// SGXBackup are the files of tmkms-light's SGX provider that are not in its home.
type SGXBackup = lightsgx.Files

// Read reads the installation of another signer:
//
//   - cometbft: the home of a node that signs with its own key, or the config
//     folder in it;
//   - tmkms: its tmkms.toml, or the folder with it;
//   - tmkms-light: the tmkms.toml of its software signer, of its Nitro helper or of its SGX
//     runner, or the folder with it;
//   - cosmos-kms: its home, or the kms.yaml in it;
//   - horcrux: the homes of as many cosigners as make the key, or the folder that they
//     lie in.
//
// A state file has to be older than settle and may not change between two
// reads, so Read can take as long as settle. Errors are a *[StateError] where a
// state is missing or does not fit, a *[LiveError] where the old signer still
// runs, and the context's.
func Read(ctx context.Context, at Place, settle time.Duration) (*Installation, error) {
	source, paths := at.Source, make([]string, len(at.Paths))
	for i := range paths {
		var err error
		if paths[i], err = filepath.Abs(at.Paths[i]); err != nil {
			return nil, err
		}
	}
	if len(paths) == 0 || len(paths) > 1 && source != "horcrux" {
		return nil, fmt.Errorf("cannot migrate from %s: name one folder, not %d", source, len(paths))
	}
	path := paths[0]
	var in *Installation
	var err error
	switch source {
	case "cometbft":
		in, err = readCometBFT(path)
	case "tmkms":
		in, err = readTMKMS(path)
	case "tmkms-light":
		in, err = readTMKMSLight(path, at.SGX)
	case "cosmos-kms":
		in, err = readCosmosKMS(path)
	case "horcrux":
		in, err = readHorcrux(paths, at.Nodes)
	default:
		return nil, fmt.Errorf("unknown signer %.40q: it is one of %s", source, strings.Join(Sources(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot migrate from %s: %w", source, err)
	}
	in.Source = source
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("cannot migrate from %s: %w", source, err)
	}
	if err := in.readStates(ctx, settle); err != nil {
		return nil, fmt.Errorf("cannot migrate from %s: %w", source, err)
	}
	for _, step := range in.switchOff() {
		in.SwitchOff = append(in.SwitchOff, shell.Line(step))
	}
	return in, nil
}

// check looks for what no signer should allow, and what would be one state for
// two chains here.
func (in *Installation) check() error {
	if len(in.Chains) == 0 {
		return errors.New("it signs for no chain")
	}
	ids, states := map[string]bool{}, map[string]string{}
	for _, c := range in.Chains {
		if !watermark.ValidChainID(c.ID) {
			return fmt.Errorf("%.60q is not a chain id: it has 1 to %d of A-Z a-z 0-9 . _ - and does not begin with a dot", c.ID, watermark.MaxChainID)
		}
		if ids[c.ID] {
			return fmt.Errorf("it holds the chain %s twice", c.ID)
		}
		ids[c.ID] = true
		if other, ok := states[c.StateFile]; ok {
			return fmt.Errorf("the chains %s and %s share the state %s, so it is not known what either has signed; import the keys one by one, each with a height H well above everything that its chain has reached, by `privyseal init --chain-id ID --node ADDR --import-key FILE --after-height H`", other, c.ID, c.StateFile)
		}
		states[c.StateFile] = c.ID
		if len(c.Nodes) == 0 {
			return fmt.Errorf("the chain %s has no node", c.ID)
		}
	}
	return nil
}

// readStates fills in the marks.
func (in *Installation) readStates(ctx context.Context, settle time.Duration) error {
	states, err := settled(ctx, in.Chains, settle)
	if err != nil {
		return err
	}
	for i := range in.Chains {
		c := &in.Chains[i]
		if err := c.readMark(states[i]); err != nil {
			return err
		}
		if !c.Mark.IsZero() && c.Mark.SignBytes == nil { // of the zero mark the gate has more to say
			c.warn("the state %s does not hold what was signed last, so nothing is signed again at %v", c.StateFile, c.Mark)
		}
	}
	return nil
}

// readMark takes the highest mark of all states; StateFile becomes the one that has
// it.
func (c *Chain) readMark(states []snapshot) error {
	for i, s := range states {
		m, err := c.parseState(c, s.data)
		if err != nil {
			return c.stateError(s.path, err)
		}
		if i == 0 || c.Mark.Less(m) {
			if i > 0 {
				c.StateFile, c.moreStates[i-1] = s.path, c.StateFile
			}
			c.Written = s.info.ModTime()
		}
		c.Mark = higher(c.Mark, m)
		if m.IsZero() && strings.HasSuffix(s.path, shareState) {
			c.Unsigned = s.path
		}
	}
	return nil
}

// switchOff returns the closing list. Its order matters: two signers with one
// key must never run at once, and the old key is not destroyed before the new
// signer has shown that it has it.
func (in *Installation) switchOff() []string {
	steps := append(slices.Clone(in.before), "Start privyseal, then the nodes, and wait until `privyseal status` shows new signatures.")
	var keys, identities, configs, states []string
	for _, c := range in.Chains {
		if c.KMS != nil {
			steps = append(steps,
				"Replace the KMS key's policy by one of `privyseal nitro key-policy`: without the old image, and without kms:Encrypt and kms:Decrypt for anybody else.",
				fmt.Sprintf("Delete the old ciphertext of the key, here and in every backup; it opens without its chain being named: `rm %s`", shell.File(c.KeyFile)))
		} else {
			for _, f := range c.KeyFiles() {
				keys = appendOnce(keys, f)
			}
		}
		if d := c.Device; d != nil && d.Password.Reveal() != "" {
			configs = appendOnce(configs, d.PasswordFile)
		}
		identities = appendOnce(identities, c.IdentityFile)
		for _, f := range c.stateFiles() {
			states = appendOnce(states, f)
		}
	}
	for _, f := range keys {
		steps = append(steps, fmt.Sprintf("Destroy the validator key in plain text, here and in every backup and snapshot: `shred -u %s`", shell.File(f)))
	}
	for _, f := range identities {
		steps = append(steps, fmt.Sprintf("Destroy the old copy of the identity key: `shred -u %s`", shell.File(f)))
	}
	for _, f := range configs {
		steps = append(steps, fmt.Sprintf("Destroy the old config, which holds the password of the device: `shred -u %s`", shell.File(f)))
	}
	for _, f := range states {
		steps = append(steps, fmt.Sprintf("Delete the old state; from now on it is out of date, and a signer that starts with it can sign twice: `rm %s`", shell.File(f)))
	}
	return steps
}
