package migrate

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/strictjson"
	"privyseal/internal/watermark"
)

// errForeign says that a state was made for another chain or another key, which
// what was signed last in it proves.
var errForeign = errors.New("it is the state of another chain or key")

// foreignError is an errForeign that says more.
type foreignError string

func (e foreignError) Error() string      { return string(e) }
func (foreignError) Is(target error) bool { return target == errForeign }

// ParseState reads one state file, for a key that is brought by hand. Read are
//
//   - CometBFT's priv_validator_state.json, of every version, and that of cosmos/kms,
//     where what was signed last has to belong to the chain and the key;
//   - Horcrux' CHAIN_priv_validator_state.json, likewise, and its
//     CHAIN_share_sign_state.json, whose signatures are parts that prove no key;
//   - the states of tmkms and tmkms-light, which say nothing about either;
//   - the old priv_validator.json, key and state in one file (Tendermint up to 0.22).
//
// Heights, rounds and steps may be numbers or text. The zero mark is a state that
// says that nothing was signed yet. The error may be [errForeign].
func ParseState(data []byte, chainID string, key pubkey.Key) (watermark.Mark, error) {
	c := &Chain{ID: chainID, expected: key}
	fields, err := stateFields(data)
	if err != nil {
		return watermark.Mark{}, err
	}
	switch {
	case fields["block_id"] != nil:
		return parseTMKMSState(c, data)
	case fields["last_height"] != nil:
		return parseCombined(c, data)
	case fields["nonce_public"] != nil || fields["ephemeral_public"] != nil || fields["vote_ext_signature"] != nil:
		return parseHorcruxState(c, data)
	}
	return parseFilePVState(c, data)
}

// stateFields returns the members of a file that is meant to be a state, and an
// error that says what it is where it is something else.
func stateFields(data []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errEmpty
	}
	if kind := kindOfText(data); kind != "" {
		return nil, fmt.Errorf("%w but %s", errOtherKind, kind)
	}
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("it is truncated, or not a state of a signer: %w", err)
	}
	if kind := kindOf(fields); kind != "" {
		return nil, fmt.Errorf("%w but %s", errOtherKind, kind)
	}
	return fields, nil
}

// errOtherKind says that a file is known, and is something else.
var errOtherKind = errors.New("it is not a signer's state")

var errEmpty = errors.New("it is empty, as the states of some signers are after a power cut")

// kindOfText says what a file is that does not hold JSON, or "".
func kindOfText(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("privyseal software key")):
		return "a key of privyseal"
	case bytes.HasPrefix(data, []byte("privyseal-mark/")):
		return "the live state file of a host, which must not be copied; move a state with `privyseal state export`"
	case bytes.Contains(data, []byte("\n[[chain]]")), bytes.Contains(data, []byte("\n[[validator]]")):
		return "a config in TOML"
	}
	return ""
}

// kindOf says what a JSON object is that is not a state, or "".
func kindOf(fields map[string]json.RawMessage) string {
	has := func(names ...string) bool {
		for _, n := range names {
			if fields[n] == nil {
				return false
			}
		}
		return true
	}
	switch {
	case has("last_height"), has("block_id"), has("height", "round", "step"):
		return "" // a state, whatever else it is
	case has("privateShard"), has("secret_share"):
		return "a shard of Horcrux' key"
	case has("rsaKey"), has("eciesKey"), has("rsa_pubs"):
		return "a communication key of Horcrux"
	case has("priv_key", "pub_key"), has("priv_key", "address"):
		return "a validator's key"
	case has("priv_key"):
		return "a key"
	case has("genesis_time"), has("chain_id", "validators"), has("app_state"):
		return "a genesis"
	case has("format", "sealed"):
		return "a sealed key, as of `privyseal key seal`"
	case has("seal_key_request"):
		return "a key that an SGX enclave has sealed"
	case has("CiphertextBlob"):
		return "a ciphertext of KMS"
	case has("addrs"):
		return "an address book of a node"
	}
	return ""
}

// number is an integer that stands as a number or as text.
type number string

func (n *number) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 1 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	if i, err := strconv.ParseInt(text, 10, 64); err != nil || strconv.FormatInt(i, 10) != text {
		return fmt.Errorf("%.30s is not a whole number", text)
	}
	*n = number(text)
	return nil
}

// int returns the number, which UnmarshalJSON has checked.
func (n number) int() int64 {
	i, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		panic("migrate: a number that was not read")
	}
	return i
}

// position is how far a state is, in the three fields that all of them have.
type position struct {
	Height *number `json:"height"`
	Round  *number `json:"round"`
	Step   *number `json:"step"`
}

// mark returns a mark without sign bytes. first is what the signer calls the step of
// a proposal: 1 as in CometBFT, or 0 as in tmkms.
func (p position) mark(first int64) (watermark.Mark, error) {
	if p.Height == nil || p.Round == nil || p.Step == nil {
		return watermark.Mark{}, errors.New("it has no height, round or step")
	}
	height, round, step := p.Height.int(), p.Round.int(), p.Step.int()
	if height == 0 && round == 0 && step == 0 {
		return watermark.Mark{}, nil
	}
	step += 1 - first
	switch {
	case height < 0:
		return watermark.Mark{}, fmt.Errorf("it has the height %d", height)
	case round < 0 || round >= math.MaxInt32:
		return watermark.Mark{}, fmt.Errorf("it has the round %d", round)
	case step < 1-first || step > int64(watermark.StepPrecommit):
		return watermark.Mark{}, fmt.Errorf("it has the step %d, but its signer counts steps from %d to %d", p.Step.int(), 0, 2+first)
	case height == 0:
		return watermark.Mark{}, errors.New("it has a round or a step at height 0, which no chain has")
	}
	return watermark.Mark{Height: height, Round: int32(round), Step: watermark.Step(step)}, nil
}

// decodeState decodes a state strictly.
func decodeState(data []byte, v any) error {
	if _, err := stateFields(data); err != nil {
		return err
	}
	if err := strictjson.Decode(data, v); err != nil {
		return fmt.Errorf("it is not a state of this signer: %w", err)
	}
	return nil
}

// filePVState is priv_validator_state.json of CometBFT (privval/file.go,
// FilePVLastSignState), the same in all versions but for the round, which Tendermint
// up to 0.33 wrote as text, and what cosmos/kms writes.
type filePVState struct {
	position
	Signature []byte `json:"signature"`
	SignBytes string `json:"signbytes"` // hex
}

func parseFilePVState(c *Chain, data []byte) (watermark.Mark, error) {
	var s filePVState
	if err := decodeState(data, &s); err != nil {
		return watermark.Mark{}, err
	}
	return s.mark(c)
}

func (s *filePVState) mark(c *Chain) (watermark.Mark, error) {
	m, err := s.position.mark(1)
	if err != nil {
		return watermark.Mark{}, err
	}
	switch hasBytes, hasSignature := s.SignBytes != "", len(s.Signature) > 0; {
	case !hasBytes && !hasSignature:
		return m, nil
	case hasBytes != hasSignature:
		return watermark.Mark{}, errors.New("it has sign bytes or a signature, but not both")
	}
	if m.SignBytes, err = hex.DecodeString(s.SignBytes); err != nil {
		return watermark.Mark{}, errors.New("its signbytes are not hex digits")
	}
	if err := checkSignBytes(c, m); err != nil {
		return watermark.Mark{}, err
	}
	if !c.public().Verify(m.SignBytes, s.Signature) {
		return watermark.Mark{}, foreignError(fmt.Sprintf("it is the state of another key: its signature was not made by %v", c.public()))
	}
	return m, nil
}

// checkSignBytes checks that what the state says was signed was signed at its
// height, round and step, and for this chain.
func checkSignBytes(c *Chain, m watermark.Mark) error {
	r, err := privval.ParseSignBytes(m.SignBytes)
	if err != nil {
		return err
	}
	steps := map[privval.Kind]watermark.Step{
		privval.KindProposal:  watermark.StepProposal,
		privval.KindPrevote:   watermark.StepPrevote,
		privval.KindPrecommit: watermark.StepPrecommit,
	}
	signed := watermark.Mark{Height: r.Height, Round: r.Round, Step: steps[r.Kind]}
	switch {
	case c.ID != "" && r.ChainID != c.ID:
		return foreignError(fmt.Sprintf("it is the state of another chain: what was signed last is of %q", r.ChainID))
	case signed.Less(m) || m.Less(signed):
		return fmt.Errorf("it contradicts itself: its mark is %v, and what was signed last is of %v", m, signed)
	}
	return nil
}

// tmkmsState is the state of tmkms and tmkms-light (consensus::State of
// tendermint-rs). It says which block was signed last, and not what.
type tmkmsState struct {
	position
	BlockID json.RawMessage `json:"block_id"`
}

func parseTMKMSState(_ *Chain, data []byte) (watermark.Mark, error) {
	var s tmkmsState
	if err := decodeState(data, &s); err != nil {
		return watermark.Mark{}, err
	}
	return s.mark(0)
}

// horcruxState is each of Horcrux' two states (signer/sign_state.go, SignState):
// CometBFT's with more in it, in versions 1 to 3.
type horcruxState struct {
	filePVState
	NoncePublic     []byte `json:"nonce_public"`
	EphemeralPublic []byte `json:"ephemeral_public"` // its name up to version 2
	VoteExtension   []byte `json:"vote_ext_signature"`
}

// parseHorcruxState reads the state of a cosigner, whose signature is a share and
// proves nothing, or of all. The bytes of a share are not taken over: the others may
// have signed something else with theirs.
func parseHorcruxState(c *Chain, data []byte) (watermark.Mark, error) {
	var s horcruxState
	if err := decodeState(data, &s); err != nil {
		return watermark.Mark{}, err
	}
	m, err := s.mark(c)
	if err == nil || !errors.Is(err, errForeign) {
		return m, err
	}
	if m, err = s.position.mark(1); err != nil {
		return m, err
	}
	signed := m
	if signed.SignBytes, err = hex.DecodeString(s.SignBytes); err != nil {
		return watermark.Mark{}, errors.New("its signbytes are not hex digits")
	}
	return m, checkSignBytes(c, signed)
}

// combinedState is what the old priv_validator.json says of what its key has signed
// (types/priv_validator.go of Tendermint up to 0.22).
type combinedState struct {
	PubKey json.RawMessage `json:"pub_key"`
	Height *number         `json:"last_height"`
	Round  *number         `json:"last_round"`
	Step   *number         `json:"last_step"`
}

// parseCombined reads the state in an old priv_validator.json. What was signed last
// stands there in an encoding that nobody signs any more.
func parseCombined(c *Chain, data []byte) (watermark.Mark, error) {
	var s combinedState
	if err := strictjson.Unmarshal(data, &s); err != nil {
		return watermark.Mark{}, fmt.Errorf("it is not a priv_validator.json: %w", err)
	}
	if key, err := pubkey.ParseJSON(s.PubKey); err == nil && !key.Equal(c.public()) {
		return watermark.Mark{}, foreignError(fmt.Sprintf("it is the file of another key, %v", key))
	}
	return position{s.Height, s.Round, s.Step}.mark(1)
}

// KeyFileMark returns what a key file itself says of what its key has signed: the
// old priv_validator.json does, other key files do not and give the zero mark. So does
// what is no text: a ciphertext may begin with any byte.
func KeyFileMark(data []byte) (watermark.Mark, error) {
	var fields map[string]json.RawMessage
	text := bytes.TrimSpace(data)
	if len(text) == 0 || text[0] != '{' || !utf8.Valid(text) {
		return watermark.Mark{}, nil
	}
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return watermark.Mark{}, err
	}
	s := map[string]*number{}
	for _, name := range []string{"last_height", "last_round", "last_step"} {
		if fields[name] == nil {
			continue
		}
		s[name] = new(number)
		if err := json.Unmarshal(fields[name], s[name]); err != nil {
			return watermark.Mark{}, fmt.Errorf("its %s: %w", name, err)
		}
	}
	if len(s) == 0 {
		return watermark.Mark{}, nil
	}
	return position{s["last_height"], s["last_round"], s["last_step"]}.mark(1)
}
