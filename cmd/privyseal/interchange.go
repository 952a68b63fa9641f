package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"privyseal/internal/migrate"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// interchange is an exported state: a JSON object of these keys, in this order,
// indented by two spaces, with a line feed behind it. It holds no secret, but
// whoever alters it can lower what is refused.
type interchange struct {
	Format    string          `json:"format"`  // "privyseal-state"
	Version   int             `json:"version"` // 1
	ChainID   string          `json:"chain_id"`
	PublicKey json.RawMessage `json:"public_key"` // type and value, as in genesis.json
	// The last mark. Height is a string, as in CometBFT's files, because JSON
	// readers round numbers above 2^53.
	Height int64  `json:"height,string"`
	Round  int32  `json:"round"`
	Step   string `json:"step"` // none, proposal, prevote or precommit
	// SignBytes are what was signed, base64; null if that is not known, and
	// then nothing is signed again at this height, round and step.
	SignBytes  []byte    `json:"sign_bytes"`
	WrittenAt  time.Time `json:"written_at"`  // when the mark was, by the old host's clock
	ExportedAt time.Time `json:"exported_at"` // since then the old host signs nothing
}

const (
	interchangeFormat  = "privyseal-state"
	interchangeVersion = 1
)

// encodeInterchange returns the file that holds an exported mark.
func encodeInterchange(chainID string, key pubkey.Key, saved watermark.Saved, now time.Time) ([]byte, error) {
	public, err := keyJSON(key)
	if err != nil {
		return nil, err
	}
	m := saved.Mark
	return interchange{
		Format: interchangeFormat, Version: interchangeVersion, ChainID: chainID, PublicKey: public,
		Height: m.Height, Round: m.Round, Step: m.Step.String(), SignBytes: m.SignBytes,
		WrittenAt: saved.Time.UTC().Truncate(0), ExportedAt: now.UTC().Truncate(time.Second),
	}.encode()
}

func (x interchange) encode() ([]byte, error) {
	data, err := json.MarshalIndent(x, "", "  ")
	return append(data, '\n'), err
}

// decodeInterchange reads an exported state. What it accepts, encodes to the
// same bytes.
func decodeInterchange(data []byte) (chainID string, key pubkey.Key, saved watermark.Saved, err error) {
	fail := func(format string, args ...any) (string, pubkey.Key, watermark.Saved, error) {
		return "", pubkey.Key{}, watermark.Saved{}, fmt.Errorf(format, args...)
	}
	var x interchange
	if err := json.Unmarshal(data, &x); err != nil {
		return fail("it is no state exported by privyseal: %v", err)
	}
	if x.Format != interchangeFormat || x.Version != interchangeVersion {
		return fail("it is no state exported by privyseal, or by a later version (format %.40q, version %d)", x.Format, x.Version)
	}
	again, err := x.encode()
	if err != nil || !bytes.Equal(again, data) {
		return fail("it was altered: it is not what `privyseal state export` writes")
	}
	if key, err = pubkey.ParseJSON(x.PublicKey); err != nil {
		return fail("%v", err)
	}
	step, err := parseStep(x.Step)
	if err != nil {
		return fail("%v", err)
	}
	if x.Height < 0 || x.Round < 0 || (x.SignBytes != nil && len(x.SignBytes) == 0) {
		return fail("its mark is out of range")
	}
	mark := watermark.Mark{Height: x.Height, Round: x.Round, Step: step, SignBytes: x.SignBytes}
	return x.ChainID, key, watermark.Saved{Mark: mark, Time: x.WrittenAt}, nil
}

func parseStep(name string) (watermark.Step, error) {
	for s := watermark.StepNone; s <= watermark.StepPrecommit; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown step %.20q", name)
}

// looksExported reports whether data is meant to be an exported state.
func looksExported(data []byte) bool {
	var x struct {
		Format string `json:"format"`
	}
	return json.Unmarshal(data, &x) == nil && x.Format != ""
}

// readStateFile returns the content of a state file of any format, and when it
// was last written.
func readStateFile(path string) (data []byte, written time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, written, err
	case !info.Mode().IsRegular():
		return nil, written, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > migrate.MaxStateSize:
		return nil, written, fmt.Errorf("%s has %d bytes, and no state has more than %d", path, info.Size(), migrate.MaxStateSize)
	}
	data, err = io.ReadAll(io.LimitReader(f, migrate.MaxStateSize))
	return data, info.ModTime(), err
}
