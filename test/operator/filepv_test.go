package operator

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/pubkey"
)

// filePVName names the node that signs with its own key file, on a host of its own.
const filePVName = "node"

// filePV is such a node, as far as its key and state matter: the files are
// CometBFT's, and so is the rule.
type filePV struct {
	home  string
	key   ed25519.PrivateKey
	state position
	bytes []byte // the sign bytes at state
}

// makeFilePV makes the home of a node, with the key of the world.
func (w *world) makeFilePV() error {
	w.filePV.home, w.filePV.key = filepath.Join(w.dir, filePVName), w.key
	public := w.key.Public().(ed25519.PublicKey)
	key, err := pubkey.New(pubkey.Ed25519, public)
	if err != nil {
		return err
	}
	address := key.Address()
	files := map[string]string{
		"config/config.toml":  "",
		"config/genesis.json": fmt.Sprintf(`{"chain_id": %q}`, chainID),
		"config/priv_validator_key.json": fmt.Sprintf(
			`{"address": "%X", "pub_key": {"type": "tendermint/PubKeyEd25519", "value": %q}, "priv_key": {"type": "tendermint/PrivKeyEd25519", "value": %q}}`,
			address[:], base64.StdEncoding.EncodeToString(public), base64.StdEncoding.EncodeToString(w.key)),
	}
	for name, text := range files {
		path := filepath.Join(w.filePV.home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return w.filePV.save()
}

func (f *filePV) keyFile() string { return filepath.Join(f.home, "config", "priv_validator_key.json") }
func (f *filePV) stateFile() string {
	return filepath.Join(f.home, "data", "priv_validator_state.json")
}

// save writes priv_validator_state.json. It looks an hour old, so that nobody
// waits for it to come to rest.
func (f *filePV) save() error {
	state := map[string]any{"height": strconv.FormatInt(f.state.height, 10), "round": f.state.round, "step": f.state.step}
	if len(f.bytes) > 0 {
		state["signbytes"] = strings.ToUpper(hex.EncodeToString(f.bytes))
		state["signature"] = base64.StdEncoding.EncodeToString(ed25519.Sign(f.key, f.bytes))
	}
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.stateFile()), 0o700); err != nil {
		return err
	}
	past := time.Now().Add(-time.Hour)
	return errors.Join(os.WriteFile(f.stateFile(), data, 0o600), os.Chtimes(f.stateFile(), past, past))
}

// take makes the node go on where an exported state ends.
func (f *filePV) take(exported []byte) error {
	var x struct {
		Height    int64 `json:",string"`
		Round     int32
		Step      string
		SignBytes []byte `json:"sign_bytes"`
	}
	if err := json.Unmarshal(exported, &x); err != nil {
		return err
	}
	f.state = position{x.Height, x.Round, steps[kinds[x.Step]]}
	f.bytes = x.SignBytes
	return f.save()
}

// sign has the node sign a block by its own rule.
func (w *world) signFilePV(height int64, block string) error {
	for _, kind := range []string{"proposal", "prevote", "precommit"} {
		req, err := request(chainID, kind, height, 0, block, time.Now())
		if err != nil {
			return err
		}
		at := position{height, 0, steps[req.Kind]}
		if at.compare(w.filePV.state) <= 0 {
			continue
		}
		w.filePV.state, w.filePV.bytes = at, req.SignBytes()
		if err := w.filePV.save(); err != nil {
			return err
		}
		resp, err := signAs(w.key, req)
		if err != nil {
			return err
		}
		if err := w.oracle.answered(w.copyOf(filePVName), req, resp); err != nil {
			return err
		}
	}
	return nil
}
