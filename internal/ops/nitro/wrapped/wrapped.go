// Package wrapped is a key that an enclave has wrapped, as its file has it, and whether the
// policy of an image lets an enclave sign with it. Nothing is opened here: what the file says
// of itself, only the enclave can verify.
package wrapped

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
)

// Key is a wrapped key, with what it says of itself.
type Key struct {
	nitrokms.Header
	Data      []byte // of the file
	PublicKey pubkey.Key
}

// maxSize bounds a wrapped key in bytes.
const maxSize = 64 << 10

// Read reads a wrapped key, which has to be for the chain; "" is an identity.
func Read(path, chainID string) (*Key, error) {
	w, err := open(path, chainID)
	if _, cured := errors.AsType[*cure.Error](err); cured {
		return nil, fmt.Errorf("cannot use the wrapped key %s: %w", path, err)
	}
	if err != nil {
		return nil, cure.Add(fmt.Errorf("cannot use the wrapped key %s: %w", path, err), "%s", lost(chainID))
	}
	return w, nil
}

func open(path, chainID string) (w *Key, err error) {
	w = &Key{}
	if w.Data, err = cli.ReadBounded(path, maxSize); errors.Is(err, fs.ErrNotExist) {
		err = syscall.ENOENT // whose path stands there already
	}
	if err != nil {
		return nil, err
	}
	if err := regular.OfAnother(w.Data, nitrokms.FirstLine); err != nil {
		return nil, err
	}
	if w.Header, err = nitrokms.Inspect(w.Data); err != nil {
		return nil, err
	}
	if w.ChainID != chainID {
		return nil, fmt.Errorf("it is for chain %q, not %q", w.ChainID, chainID)
	}
	t, err := pubkey.ParseType(w.KeyType)
	if err != nil {
		return nil, err
	}
	w.PublicKey, err = pubkey.New(t, w.Public)
	return w, err
}

// Of reads the wrapped keys of a chain; identity is nil where it has none.
func Of(c *config.Config, ch config.Chain) (key, identity *Key, err error) {
	if key, err = Read(c.Path(ch.Key), ch.ID); err != nil || ch.Identity == "" {
		return key, nil, err
	}
	identity, err = Read(c.Path(ch.Identity), "")
	return key, identity, err
}

// lost says how a wrapped key comes back, which no command can make again.
func lost(chainID string) string {
	if chainID == "" {
		return "put the identity's file back from the backup"
	}
	return "put the file that `privyseal init` named for the backup back in its place, with mode 0600; without a copy the key is gone, and the validator needs a new one"
}
