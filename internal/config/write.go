package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"privyseal/internal/durable"
)

// Render returns c as a commented file. What is absent from it has the
// default's value in a comment.
func (c *Config) Render() []byte {
	var b strings.Builder
	b.WriteString(`# privyseal: the signer of a CometBFT validator.
# Paths are relative to the folder of this file. After a change type
# "privyseal check".

`)
	fmt.Fprintf(&b, "# %s\n", strings.ReplaceAll(Comment(keys, "listen"), "\n", "\n# "))
	fmt.Fprintf(&b, "listen = %s\n\n[log]\n", Quote(c.Listen))
	fmt.Fprintf(&b, "level  = %s # %s\n", Quote(c.Log.Level), Comment(keys, "log.level"))
	fmt.Fprintf(&b, "format = %s # %s\n", Quote(c.Log.Format), Comment(keys, "log.format"))
	b.WriteString(c.kinds.Render(c.Tables))
	for _, ch := range c.Chains {
		b.WriteString(c.kinds.chain(ch))
	}
	return []byte(b.String())
}

// chain returns the [[chain]] block, an empty line before it.
func (k Kinds) chain(ch Chain) string {
	kind, store := k.provider(ch.Provider), k.store(ch.Store)
	b := Lines{keys: keys, prefix: "chain.*."}
	// A key that is not for the provider or the store has no line.
	line := func(set bool, key, value string) {
		_, refused := kind.Refused[key]
		_, unkept := store.Refused[key]
		if !refused && !unkept {
			b.Line(set, key, value)
		}
	}
	b.WriteString("\n[[chain]]\n")
	line(true, "id", Quote(ch.ID))
	if ch.Name != ch.ID {
		line(true, "name", Quote(ch.Name))
	}
	line(true, "provider", Quote(ch.Provider))
	if ch.Table != "" {
		line(true, kind.Table, Quote(ch.Table))
	}
	line(true, "key", Quote(ch.Key))
	if ch.Store != "" && ch.Store != k.store("").Store {
		line(true, "store", Quote(ch.Store))
	}
	if ch.StoreTable != "" {
		line(true, store.Table, Quote(ch.StoreTable))
	}
	line(true, "state", Quote(ch.State))
	if ch.Identity != "" {
		line(true, "identity", Quote(ch.Identity))
	}
	if len(ch.ImportedFrom) > 0 {
		line(true, "imported_from", quotedList(ch.ImportedFrom))
	}
	b.WriteString("node = [\n")
	for _, n := range ch.Nodes {
		fmt.Fprintf(&b, "  %s,\n", n.render())
	}
	b.WriteString("]\n")
	example := []string{"http://127.0.0.1:26657"}
	if len(ch.Witness) > 0 {
		example = ch.Witness
	}
	line(len(ch.Witness) > 0, "witness", quotedList(example))
	if ch.WitnessWait.Duration != DefaultWitnessWait {
		line(true, "witness_wait", Quote(ch.WitnessWait.String()))
	}
	line(ch.MaxHeight != 0, "max_height", fmt.Sprint(ch.MaxHeight))
	line(ch.HeightBurst != DefaultHeightBurst, "height_burst", fmt.Sprint(ch.HeightBurst))
	line(ch.HeightPerSecond != DefaultHeightPerSecond, "height_per_second", fmt.Sprint(ch.HeightPerSecond))
	line(ch.Timeout.Duration != DefaultTimeout, "timeout", Quote(ch.Timeout.String()))
	line(ch.AllowSignBytes, "allow_sign_bytes", fmt.Sprint(ch.AllowSignBytes))
	line(ch.AllowRawBytes, "allow_raw_bytes", fmt.Sprint(ch.AllowRawBytes))
	return b.String()
}

func (n Node) render() string {
	text := fmt.Sprintf("{ name = %s, addr = %s", Quote(n.Name), Quote(n.Addr))
	if n.PeerUID != nil {
		text += fmt.Sprintf(", peer_uid = %d", *n.PeerUID)
	}
	return text + " }"
}

// New returns a config with the defaults that `init` writes.
func (k Kinds) New(chains ...Chain) *Config {
	return &Config{
		kinds:  k,
		Listen: "127.0.0.1:26661",
		Log:    Log{Level: DefaultLevel, Format: DefaultFormat},
		Chains: chains,
	}
}

// NewChain returns a chain with a software key, the usual paths and every
// default. It has no node yet. An empty name is the id.
func NewChain(id, name string) Chain {
	name = cmp.Or(name, id)
	return Chain{
		ID:              id,
		Name:            name,
		Provider:        "soft",
		Key:             "keys/" + name + ".key",
		State:           "state/" + name + ".mark",
		HeightBurst:     DefaultHeightBurst,
		HeightPerSecond: DefaultHeightPerSecond,
		Timeout:         Duration{DefaultTimeout},
		WitnessWait:     Duration{DefaultWitnessWait},
	}
}

// WriteNew writes c to path, mode 0600, and returns when it is durable. It
// never overwrites: fs.ErrExist. A config that [Load] would refuse is not
// written.
func WriteNew(path string, c *Config) error {
	data := c.Render()
	if _, err := c.kinds.Parse(path, data); err != nil {
		return err
	}
	err := locked(path, func() error { return durable.Create(path, data, 0o600) })
	if err != nil {
		return fmt.Errorf("cannot write the config: %w", err)
	}
	return nil
}

// Append adds chains to the end of the config file at path, with the tables of providers and
// stores that they need, as [Config.Tables] has them. It leaves every other byte of the file,
// its mode and its owner as they are. If the result would not load, nothing is written. It
// returns when the file is durable; a crash leaves the old or the new file.
func (k Kinds) Append(path string, tables map[string]map[string]Section, chains ...Chain) error {
	// A link stays a link: its target is replaced.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("cannot add the chain: %w", err)
	}
	return locked(target, func() error {
		data, mode, err := read(target)
		if err != nil {
			return err
		}
		if len(data) > 0 && data[len(data)-1] != '\n' {
			data = append(data, '\n')
		}
		data = append(data, k.Render(tables)...)
		for _, ch := range chains {
			data = append(data, k.chain(ch)...)
		}
		c, err := k.Parse(path, data)
		if err != nil {
			return err
		}
		if err := c.checkMode(path, mode); err != nil {
			return err
		}
		info, err := os.Stat(target)
		if err == nil {
			err = durable.Replace(target, data, info)
		}
		if err != nil {
			return fmt.Errorf("cannot add the chain to %s: %w", path, err)
		}
		return nil
	})
}

// locked runs write, which writes the file at path, while other processes that do the same
// are kept out.
func locked(path string, write func() error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // and with it the lock
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock %s: %w", dir.Name(), err)
	}
	if err := durable.Sweep(path); err != nil {
		return err
	}
	return write()
}
