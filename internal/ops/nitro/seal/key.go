// Package seal encrypts an existing key to a Nitro enclave: `privyseal key seal`, on the
// machine that has the key, and the file that comes of it. Nothing is launched, and no
// network is needed. The enclave is trusted for what its attestation document proves, and
// the file is worth nothing to anybody else.
package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// Key is what `key seal` writes: a JSON object of these keys, in this
// order. It holds no secret in the clear; what is altered in it, the enclave refuses.
type Key struct {
	Format    string          `json:"format"`  // "privyseal-sealed-key"
	Version   int             `json:"version"` // 1
	Boot      string          `json:"boot"`    // of the enclave that can open it
	ChainID   string          `json:"chain_id"`
	PublicKey json.RawMessage `json:"public_key"` // as in genesis.json
	Fresh     bool            `json:"fresh"`      // it never signed for this chain
	Height    int64           `json:"height,string"`
	Round     int32           `json:"round"`
	Step      string          `json:"step"`
	SignBytes []byte          `json:"sign_bytes"` // null if they are not known
	Sealed    []byte          `json:"sealed"`
}

const (
	format  = "privyseal-sealed-key"
	version = 1
	maxSize = 64 << 10 // bytes
)

func (s Key) encode() ([]byte, error) {
	data, err := json.MarshalIndent(s, "", "  ")
	return append(data, '\n'), err
}

// Read reads what `key seal` wrote, and returns the request that it is
// for.
func Read(path string) (Key, *hostlink.Import, error) {
	data, err := cli.ReadBounded(path, maxSize)
	if err != nil {
		return Key{}, nil, err
	}
	s, imp, err := decode(data)
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, imp, nil
}

// decode takes nothing but what encode has written.
func decode(data []byte) (s Key, imp *hostlink.Import, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || s.Format != format || s.Version != version {
		return s, nil, errors.New("it is not what `privyseal key seal` writes")
	}
	again, err := s.encode()
	if err != nil || !bytes.Equal(again, data) {
		return s, nil, errors.New("it was altered: it is not what `privyseal key seal` writes")
	}
	key, err := pubkey.ParseJSON(s.PublicKey)
	if err != nil {
		return s, nil, err
	}
	step, err := home.ParseStep(s.Step)
	if err != nil {
		return s, nil, err
	}
	imp = NewImport(s.ChainID, key, watermark.Mark{Height: s.Height, Round: s.Round, Step: step, SignBytes: s.SignBytes})
	imp.Sealed = s.Sealed
	if s.Fresh != imp.Fresh {
		return s, nil, fmt.Errorf("it was altered: fresh is %v, and its state is at height %d", s.Fresh, s.Height)
	}
	return s, imp, nil
}

// NewImport returns a request without a secret. The zero mark is the word that
// the key never signed.
func NewImport(chainID string, key pubkey.Key, m watermark.Mark) *hostlink.Import {
	return &hostlink.Import{
		ChainID: chainID, KeyType: string(key.Type()), Public: key.Bytes(),
		Height: m.Height, Round: m.Round, Step: uint8(m.Step), SignBytes: m.SignBytes, Fresh: m.IsZero(),
	}
}
