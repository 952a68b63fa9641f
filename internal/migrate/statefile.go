package migrate

import (
	"encoding/json"

	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// MaxStateSize bounds in bytes what [ParseState] is worth calling with.
const MaxStateSize = maxStateSize

// ParseState reads one state file, for a key that is brought by hand: that of
// CometBFT and cosmos/kms, which has to belong to the chain and the key, or that
// of tmkms and tmkms-light, which says nothing about either. The zero mark is a
// state that says that nothing was signed yet.
func ParseState(data []byte, chainID string, key pubkey.Key) (watermark.Mark, error) {
	c := &Chain{ID: chainID, Public: key}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err == nil {
		if _, found := fields["block_id"]; found {
			return parseTMKMSState(c, data)
		}
	}
	return parseFilePVState(c, data)
}
