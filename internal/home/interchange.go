package home

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
)

// interchange is an exported state: a JSON object of these keys, in this order,
// indented by two spaces, with a line feed at the end. It holds no secret, but
// whoever alters it can lower what is refused.
type interchange struct {
	Format    string          `json:"format"`  // "privyseal-state"
	Version   int             `json:"version"` // 2; 1 has neither place nor instance
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
	Exporter
}

// Exporter is what an export says of where it was written, so that the host knows
// its own. Neither reveals anything of use elsewhere.
type Exporter struct {
	// Place is a hash of the machine's id and the path of the state, absent where the
	// machine has no id.
	Place string `json:"place,omitempty"`
	// Instance names the state file, absent where it cannot be known.
	Instance string `json:"instance,omitempty"`
}

// Same reports whether two are of one place, or of one file.
func (e Exporter) Same(other Exporter) bool {
	return e.Place != "" && e.Place == other.Place || e.Instance != "" && e.Instance == other.Instance
}

// ExporterOf returns what an export of the state at path says. info is of that file,
// or zero if there is none.
func ExporterOf(path string, info provider.Info) Exporter {
	e := Exporter{Instance: info.Instance}
	id, err := os.ReadFile("/etc/machine-id")
	if id = bytes.TrimSpace(id); err != nil || len(id) == 0 {
		return e
	}
	if path, err = filepath.Abs(path); err != nil {
		return e
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(real, filepath.Base(path))
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "privyseal export\n%s\n%s", id, path))
	e.Place = hex.EncodeToString(sum[:8])
	return e
}

const (
	interchangeFormat  = "privyseal-state"
	interchangeVersion = 2
)

// EncodeInterchange returns the file that holds an exported mark.
func EncodeInterchange(chainID string, key pubkey.Key, saved watermark.Saved, now time.Time, by Exporter) ([]byte, error) {
	m := saved.Mark
	return interchange{
		Format: interchangeFormat, Version: interchangeVersion, ChainID: chainID, PublicKey: json.RawMessage(key.JSON()),
		Height: m.Height, Round: m.Round, Step: m.Step.String(), SignBytes: m.SignBytes,
		WrittenAt: saved.Time.UTC().Truncate(0), ExportedAt: now.UTC().Truncate(time.Second),
		Exporter: by,
	}.encode()
}

func (x interchange) encode() ([]byte, error) {
	data, err := json.MarshalIndent(x, "", "  ")
	return append(data, '\n'), err
}

// Foreign is a state from elsewhere.
type Foreign struct {
	watermark.Saved
	From string   // for people: which file, and what it is
	By   Exporter // zero unless privyseal exported it
}

// decodeInterchange reads an exported state. What it accepts, encodes to the
// same bytes.
func decodeInterchange(data []byte) (chainID string, key pubkey.Key, state Foreign, err error) {
	fail := func(format string, args ...any) (string, pubkey.Key, Foreign, error) {
		return "", pubkey.Key{}, Foreign{}, fmt.Errorf(format, args...)
	}
	var x interchange
	if err := strictjson.Unmarshal(data, &x); err != nil {
		return fail("it is not a state exported by privyseal: %w", err)
	}
	if x.Format != interchangeFormat || x.Version < 1 || x.Version > interchangeVersion || x.Version == 1 && x.Exporter != (Exporter{}) {
		return fail("it is not a state exported by privyseal, or by a later version (format %.40q, version %d)", x.Format, x.Version)
	}
	again, err := x.encode()
	if err != nil || !bytes.Equal(again, data) {
		return fail("it was altered: it is not what `privyseal state export` writes")
	}
	if key, err = pubkey.ParseJSON(x.PublicKey); err != nil {
		return fail("%w", err)
	}
	step, err := ParseStep(x.Step)
	if err != nil {
		return fail("%w", err)
	}
	if x.Height < 0 || x.Round < 0 || (x.SignBytes != nil && len(x.SignBytes) == 0) {
		return fail("its mark is out of range")
	}
	mark := watermark.Mark{Height: x.Height, Round: x.Round, Step: step, SignBytes: x.SignBytes}
	return x.ChainID, key, Foreign{
		Saved: watermark.Saved{Mark: mark, Time: x.WrittenAt},
		From:  "exported by privyseal at " + x.ExportedAt.UTC().Format(time.RFC3339),
		By:    x.Exporter,
	}, nil
}

func ParseStep(name string) (watermark.Step, error) {
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
	return json.Unmarshal(data, &x) == nil && x.Format != "" // the strict look comes after
}

// readStateFile returns the content of a state file of any format, and when it
// was last written.
func readStateFile(path string) (data []byte, written time.Time, err error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
	switch {
	case info.Size() > migrate.MaxStateSize && startsWith(f, "privyseal-mark/"):
		return nil, written, cli.Actf("%s is the live state file of a host, which must not be copied; move a state with `privyseal state export`", path)
	case info.Size() > migrate.MaxStateSize:
		return nil, written, fmt.Errorf("%s has %d bytes, and no state has more than %d", path, info.Size(), migrate.MaxStateSize)
	}
	data, err = io.ReadAll(io.LimitReader(f, migrate.MaxStateSize))
	return data, info.ModTime(), err
}

// startsWith reports whether a file starts with a text.
func startsWith(f *os.File, text string) bool {
	b := make([]byte, len(text))
	_, err := f.ReadAt(b, 0)
	return err == nil && string(b) == text
}
