package witness

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/strictjson"
)

// Status is what a node says about itself.
type Status struct {
	Network    string // the chain id
	Version    string // of the node, for people
	Height     int64  // of its newest block; 0 before the first one
	CatchingUp bool   // it does not claim to be at the tip
}

// Commit is the commit of one block, as far as it concerns us.
type Commit struct {
	ChainID   string
	Height    int64
	Round     int32
	BlockID   privval.BlockID
	BlockTime time.Time
	// Votes are the precommits under one validator address. A commit has one at
	// most; a witness can claim more.
	Votes []Vote
}

// Vote is a precommit that a commit claims.
type Vote struct {
	ForBlock  bool // for the block of the commit; else for nil
	Timestamp privval.Timestamp
	Signature []byte
}

// Values of BlockIDFlag (proto/tendermint/types/types.proto).
const (
	flagAbsent = 1
	flagCommit = 2
	flagNil    = 3
)

// Limits of what is decoded; the sizes of answers are those of client.go.
const (
	maxSignature = 1 << 13 // base64 of the 3,309 bytes of ML-DSA-65
	maxText      = 100
)

// rpcError is an answer that says no, as for a height that was pruned.
type rpcError struct{ text string }

func (e *rpcError) Error() string { return "it answers: " + e.text }

var errShape = errors.New("it does not answer like the RPC of a CometBFT node")

// decodeResult takes a JSON-RPC answer apart and decodes its result into v.
// Sei's nodes leave the envelope out.
func decodeResult(body []byte, v any) error {
	if err := strictjson.Check(body); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	var envelope struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string          `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	if e := envelope.Error; e != nil {
		return &rpcError{printable(e.Message + " " + string(e.Data))}
	}
	result := envelope.Result
	if result == nil {
		result = body
	}
	if err := json.Unmarshal(result, v); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	return nil
}

// decodeStatus reads the answer to /status.
func decodeStatus(body []byte) (Status, error) {
	var r struct {
		NodeInfo struct {
			Network string `json:"network"`
			Version string `json:"version"`
		} `json:"node_info"`
		SyncInfo struct {
			Height     string `json:"latest_block_height"`
			CatchingUp bool   `json:"catching_up"`
		} `json:"sync_info"`
	}
	if err := decodeResult(body, &r); err != nil {
		return Status{}, err
	}
	if r.NodeInfo.Network == "" || r.SyncInfo.Height == "" {
		return Status{}, errShape
	}
	height, err := parseHeight(r.SyncInfo.Height)
	if err != nil {
		return Status{}, err
	}
	return Status{
		Network: printable(r.NodeInfo.Network), Version: printable(r.NodeInfo.Version),
		Height: height, CatchingUp: r.SyncInfo.CatchingUp,
	}, nil
}

type commitAnswer struct {
	SignedHeader struct {
		Header struct {
			ChainID string    `json:"chain_id"`
			Height  string    `json:"height"`
			Time    time.Time `json:"time"`
		} `json:"header"`
		Commit struct {
			Height     string      `json:"height"`
			Round      int32       `json:"round"`
			BlockID    blockID     `json:"block_id"`
			Signatures []commitSig `json:"signatures"`
		} `json:"commit"`
	} `json:"signed_header"`
}

type blockID struct {
	Hash  string `json:"hash"`
	Parts struct {
		Total uint32 `json:"total"`
		Hash  string `json:"hash"`
	} `json:"parts"`
}

type commitSig struct {
	Flag      int    `json:"block_id_flag"`
	Address   string `json:"validator_address"`
	Timestamp string `json:"timestamp"`
	Signature string `json:"signature"`
}

// decodeCommit reads the answer to /commit, with the votes of the validator that
// has the address, upper-case hex.
func decodeCommit(body []byte, address string) (Commit, error) {
	var r commitAnswer
	if err := decodeResult(body, &r); err != nil {
		return Commit{}, err
	}
	header, commit := r.SignedHeader.Header, r.SignedHeader.Commit
	c := Commit{ChainID: header.ChainID, Round: commit.Round, BlockTime: header.Time}
	var err error
	if c.Height, err = parseHeight(header.Height); err != nil {
		return Commit{}, err
	}
	if commit.Height != header.Height || c.Height < 1 || c.Round < 0 {
		return Commit{}, fmt.Errorf("%w: the header of height %s has a commit of %s", errShape, printable(header.Height), printable(commit.Height))
	}
	if c.BlockID, err = commit.BlockID.decode(); err != nil {
		return Commit{}, err
	}
	if len(commit.Signatures) == 0 {
		return Commit{}, fmt.Errorf("%w: a commit without signatures", errShape)
	}
	for _, s := range commit.Signatures {
		if s.Flag == flagAbsent || !strings.EqualFold(s.Address, address) {
			continue
		}
		v, err := s.decode()
		if err != nil {
			return Commit{}, err
		}
		c.Votes = append(c.Votes, v)
	}
	return c, nil
}

func (b blockID) decode() (id privval.BlockID, err error) {
	if id.Hash, err = hex.DecodeString(b.Hash); err == nil {
		id.PartsHash, err = hex.DecodeString(b.Parts.Hash)
	}
	id.PartsTotal = b.Parts.Total
	if err != nil || len(id.Hash) != 32 || len(id.PartsHash) != 32 || id.PartsTotal == 0 {
		return privval.BlockID{}, fmt.Errorf("%w: a commit for no block", errShape)
	}
	return id, nil
}

func (s commitSig) decode() (Vote, error) {
	if s.Flag != flagCommit && s.Flag != flagNil || len(s.Signature) > maxSignature {
		return Vote{}, fmt.Errorf("%w: a precommit with flag %d and a signature of %d characters", errShape, s.Flag, len(s.Signature))
	}
	at, err := time.Parse(time.RFC3339Nano, s.Timestamp)
	if err != nil {
		return Vote{}, fmt.Errorf("%w: a precommit without a time", errShape)
	}
	sig, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil {
		return Vote{}, fmt.Errorf("%w: a signature that is not base64", errShape)
	}
	return Vote{
		ForBlock: s.Flag == flagCommit, Signature: sig,
		Timestamp: privval.Timestamp{Seconds: at.Unix(), Nanos: int32(at.Nanosecond())},
	}, nil
}

// signBytes returns what the vote has to be a signature over.
func (c *Commit) signBytes(v Vote) []byte {
	r := privval.Request{
		Kind: privval.KindPrecommit, ChainID: c.ChainID, Height: c.Height, Round: c.Round, Timestamp: v.Timestamp,
	}
	if v.ForBlock {
		r.BlockID = c.BlockID
	}
	return r.SignBytes()
}

// maxHeight is above every chain, and so far below the largest int64 that no bound
// which is made of a tip runs over.
const maxHeight = 1 << 62

// parseHeight reads a height: JSON has no 64-bit numbers, so it is a string.
func parseHeight(s string) (int64, error) {
	h, err := strconv.ParseInt(s, 10, 64)
	if err != nil || h < 0 || h > maxHeight || s[0] == '+' || s[0] == '-' {
		return 0, fmt.Errorf("%w: a height of %s", errShape, printable(s))
	}
	return h, nil
}

// printable makes the text of a witness fit for a log and a terminal.
func printable(s string) string { return shown(s, maxText) }

// shown makes a text fit for a log and a terminal, and no longer than most bytes.
func shown(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}
