package migrate

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/watermark"
)

// Found is a state that lies where a signer of the key would keep it.
type Found struct {
	Path string
	Mark watermark.Mark
	Err  error // why it could not be read; Mark is zero then
}

// Beside looks for the states that signers keep beside a key file, and into the key
// file itself: the old priv_validator.json holds both. The layouts are those of
// CometBFT (config/ and data/), tmkms (secrets/ and state/), tmkms-light, cosmos/kms
// and Horcrux. A state that was made for another chain or key, as far as it can be
// known, is left out; one that cannot be read is not. Where chainID is empty, states
// of all chains count, under names that hold none.
func Beside(keyFile, chainID string, key pubkey.Key) (found []Found) {
	if path, err := filepath.EvalSymlinks(keyFile); err == nil {
		keyFile = path
	}
	if data, _, err := regular.Read(keyFile, MaxStateSize); err == nil {
		if m, err := KeyFileMark(data); err != nil || !m.IsZero() {
			found = append(found, Found{keyFile, m, err})
		}
	}
	dir := filepath.Dir(keyFile)
	var seen []string
	for _, folder := range []string{dir, dir + "/data", dir + "/state", dir + "/../data", dir + "/../state", dir + "/.."} {
		for _, name := range stateNames(chainID) {
			path := filepath.Join(folder, name)
			if path == filepath.Clean(keyFile) || slices.Contains(seen, path) {
				continue
			}
			seen = append(seen, path)
			if f := look(path, chainID, key); f != nil {
				found = append(found, *f)
			}
		}
	}
	return found
}

// stateNames are the names under which signers keep the state of a chain.
func stateNames(chainID string) []string {
	return []string{
		"priv_validator_state.json",            // CometBFT, tmkms-light
		chainID + "_priv_validator_state.json", // tmkms without state_file, Horcrux
		chainID + "_share_sign_state.json",     // Horcrux
		chainID + "-consensus.json",            // tmkms init
		chainID + ".json",                      // cosmos/kms
		"priv_validator.json",                  // Tendermint up to 0.22
	}
}

// look reads one state, and returns nil if that is of another chain or key.
func look(path, chainID string, key pubkey.Key) *Found {
	data, _, err := regular.Read(path, MaxStateSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var m watermark.Mark
		if m, err = ParseState(data, chainID, key); err == nil {
			return &Found{Path: path, Mark: m}
		}
	}
	if errors.Is(err, errForeign) || errors.Is(err, errOtherKind) {
		return nil
	}
	return &Found{Path: path, Err: err}
}
