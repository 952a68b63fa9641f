package nitro

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

// wrapped is a wrapped key as its file has it, with what it says of itself: that only the
// enclave can verify.
type wrapped struct {
	nitrokms.Header
	data   []byte
	public pubkey.Key
}

// maxWrapped bounds a wrapped key in bytes.
const maxWrapped = 64 << 10

// readWrapped reads a wrapped key, which has to be for the chain; "" is an identity.
func readWrapped(path, chainID string) (*wrapped, error) {
	w, err := openWrapped(path, chainID)
	if _, cured := errors.AsType[*cure.Error](err); cured {
		return nil, fmt.Errorf("cannot use the wrapped key %s: %w", path, err)
	}
	if err != nil {
		return nil, cure.Add(fmt.Errorf("cannot use the wrapped key %s: %w", path, err), "%s", lostWrapped(chainID))
	}
	return w, nil
}

func openWrapped(path, chainID string) (w *wrapped, err error) {
	w = &wrapped{}
	if w.data, err = cli.ReadBounded(path, maxWrapped); errors.Is(err, fs.ErrNotExist) {
		err = syscall.ENOENT // whose path stands there already
	}
	if err != nil {
		return nil, err
	}
	if err := regular.OfAnother(w.data, nitrokms.FirstLine); err != nil {
		return nil, err
	}
	if w.Header, err = nitrokms.Inspect(w.data); err != nil {
		return nil, err
	}
	if w.ChainID != chainID {
		return nil, fmt.Errorf("it is for chain %q, not %q", w.ChainID, chainID)
	}
	t, err := pubkey.ParseType(w.KeyType)
	if err != nil {
		return nil, err
	}
	w.public, err = pubkey.New(t, w.Public)
	return w, err
}

// wrappedOf reads the wrapped keys of a chain; identity is nil where it has none.
func wrappedOf(c *config.Config, ch config.Chain) (key, identity *wrapped, err error) {
	if key, err = readWrapped(c.Path(ch.Key), ch.ID); err != nil || ch.Identity == "" {
		return key, nil, err
	}
	identity, err = readWrapped(c.Path(ch.Identity), "")
	return key, identity, err
}

// lostWrapped says how a wrapped key comes back, which no command can make again.
func lostWrapped(chainID string) string {
	if chainID == "" {
		return "put the identity's file back from the backup"
	}
	return "put the file that `privyseal init` named for the backup back in its place, with mode 0600; without a copy the key is gone, and the validator needs a new one"
}
