package hostlink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Request is what a host asks on ControlPort: exactly one field is set. One
// request, one reply, for as long as the connection lasts. Nothing in it is
// trusted.
type Request struct {
	Hello     *Hello     `json:"hello,omitempty"`
	Create    *Create    `json:"create,omitempty"`
	ImportKey *ImportKey `json:"import_key,omitempty"`
	Import    *Import    `json:"import,omitempty"`
	Boot      *Boot      `json:"boot,omitempty"`
	Attest    *Attest    `json:"attest,omitempty"`
	NewState  *NewState  `json:"new_state,omitempty"`
	Certify   *Certify   `json:"certify,omitempty"`
	Share     *Share     `json:"share,omitempty"`
	Look      *Look      `json:"look,omitempty"`
	CloudWrap *CloudWrap `json:"cloud_wrap,omitempty"`
	Recover   *Recover   `json:"recover,omitempty"`
	Sample    *Sample    `json:"sample,omitempty"`
}

// Hello asks who is there.
type Hello struct{}

// LogValue is what slog logs: nothing of what is asked, which may have credentials.
func (r Request) LogValue() slog.Value { return slog.StringValue("request of the host") }

// LogValue is what slog logs: how many chains there are.
func (b Boot) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("boot of %d chains", len(b.Chains)))
}

// Create makes a key inside, wraps it, and makes the first record of its state.
type Create struct {
	ChainID     string      `json:"chain_id"` // "" for an identity
	KeyType     string      `json:"key_type"`
	Nonce       []byte      `json:"nonce,omitempty"` // that the document has to contain
	Credentials Credentials `json:"credentials"`
}

// Created answers Create, Import, NewState and Recover.
type Created struct {
	KeyType  string `json:"key_type"`
	Public   []byte `json:"public"`
	Wrapped  []byte `json:"wrapped"`
	Record   []byte `json:"record,omitempty"` // sealed; absent for an identity, and after Recover
	Document []byte `json:"document"`         // attestation, purpose "create", "state" or "recover"
	// Backup is what the holder of the recovery key can open. It is there after Create and
	// Import, and only of enclaves whose policy names a recovery key.
	Backup []byte `json:"backup,omitempty"`
}

// ImportKey asks for a key to import under: the answer is an attestation
// document, purpose "import", whose public_key is an RSA key of this boot.
type ImportKey struct {
	Nonce []byte `json:"nonce,omitempty"`
}

// Import brings an existing key in.
type Import struct {
	ChainID string `json:"chain_id"`
	KeyType string `json:"key_type"`
	Public  []byte `json:"public"` // what the secret has to belong to

	// Exactly one of both: the secret under the key of ImportKey, see Seal, or a
	// KMS ciphertext of it.
	Sealed []byte `json:"sealed,omitempty"`
	KMS    []byte `json:"kms,omitempty"`

	// The state, which is mandatory: its last mark, or a floor, or the word
	// that the key never signed for this chain. The sign bytes of the mark are
	// taken with Sealed only, which binds them; with KMS they are dropped.
	Height    int64  `json:"height,omitempty"`
	Round     int32  `json:"round,omitempty"`
	Step      uint8  `json:"step,omitempty"`
	SignBytes []byte `json:"sign_bytes,omitempty"`
	Fresh     bool   `json:"fresh,omitempty"`

	Credentials Credentials `json:"credentials"`
}

// NewState makes a first record for a key whose state is lost, above the floor
// that the measured policy holds for the chain. Without such a floor it is
// refused.
type NewState struct {
	ChainID     string      `json:"chain_id"`
	Wrapped     []byte      `json:"wrapped"`
	AfterHeight int64       `json:"after_height"`
	Credentials Credentials `json:"credentials"`
}

// CloudWrap asks for a key that the key of a backup can be encrypted to: a wrap key. It is
// refused where there are no backups.
type CloudWrap struct {
	Nonce []byte `json:"nonce,omitempty"` // at most MaxNonce
}

// WrapKey answers CloudWrap. The host keeps it: it is good for as long as the enclave's keys
// open.
type WrapKey struct {
	Wrapped  []byte `json:"wrapped"`
	Document []byte `json:"document"` // attestation, purpose "wrap", whose public_key it is
}

// Recover brings a key back from its backup, wrapped for this enclave. Its state does not come
// with it: a record of it is good in any enclave with the key.
type Recover struct {
	ChainID string `json:"chain_id"` // "" for an identity
	Public  []byte `json:"public"`   // what the backup has to be of

	WrapKey   []byte `json:"wrap_key"`  // WrapKey.Wrapped
	Encrypted []byte `json:"encrypted"` // the key of the backup, to that wrap key
	Backup    []byte `json:"backup"`

	// Check only looks whether it works: the answer has the key's type and public half.
	Check bool `json:"check,omitempty"`
}

// Sample asks for answers of KMS as they come inside, to calls about a data key that is made
// for it and encrypts nothing.
type Sample struct {
	// What the data key is bound to, as a key's is: for a KMS key whose policy pins these.
	ChainID     string      `json:"chain_id"`
	Public      []byte      `json:"public"`
	Credentials Credentials `json:"credentials"`
}

// KMSAnswer is one of these answers.
type KMSAnswer struct {
	Call  string `json:"call"`            // what it answers
	Raw   []byte `json:"raw,omitempty"`   // all of it, in HTTP; absent if there is none, or it may hold a secret
	Error string `json:"error,omitempty"` // why the enclave did not take it
}

// Boot opens the wrapped keys and begins to sign. Sent again, by a host that
// was restarted, it changes nodes and levels and leaves keys and marks alone.
type Boot struct {
	Credentials Credentials `json:"credentials"`
	Chains      []BootChain `json:"chains"`
	LogLevel    string      `json:"log_level"`
	// Etcd is what an image needs whose policy has the marks in etcd, and nil for others.
	// Sent again with the same key it changes the certificate, and not the members.
	Etcd *BootEtcd `json:"etcd,omitempty"`
	// DynamoDB is the same of an image whose policy has the marks there.
	DynamoDB *BootDynamoDB `json:"dynamodb,omitempty"`
}

// BootChain is one chain to sign for.
type BootChain struct {
	ID       string     `json:"id"`
	Wrapped  []byte     `json:"wrapped"`
	Identity []byte     `json:"identity,omitempty"` // wrapped, for tcp and noise nodes
	Nodes    []BootNode `json:"nodes"`

	HeightBurst     int64         `json:"height_burst,omitempty"`
	HeightPerSecond int64         `json:"height_per_second,omitempty"`
	Idle            time.Duration `json:"idle,omitempty"`
}

// BootNode is one node. The host connects the enclave to it; the address says
// which handshake ends inside, and whom to expect.
type BootNode struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
}

// MaxNonce is how many bytes a nonce has at most: what the NSM takes.
const MaxNonce = 512

// Attest asks for a document about a chain, purpose "attest".
type Attest struct {
	ChainID string `json:"chain_id"`
	Nonce   []byte `json:"nonce,omitempty"` // at most MaxNonce
}

// Reply answers a Request. Error is for an operator; Cure is the next thing to
// do, where there is one.
type Reply struct {
	Error string `json:"error,omitempty"`
	Cure  string `json:"cure,omitempty"`

	Status   *Status  `json:"status,omitempty"`   // Hello, Boot
	Created  *Created `json:"created,omitempty"`  // Create, Import, NewState, Recover
	Document []byte   `json:"document,omitempty"` // Attest, ImportKey
	Request  []byte   `json:"request,omitempty"`  // Certify
	Shared   *Shared  `json:"shared,omitempty"`   // Share
	Looked   *Looked  `json:"looked,omitempty"`   // Look
	WrapKey  *WrapKey `json:"wrap_key,omitempty"` // CloudWrap

	Answers []KMSAnswer `json:"answers,omitempty"` // Sample
}

// Status is what an enclave says about itself. None of it is attested.
type Status struct {
	Version string        `json:"version"`
	Boot    string        `json:"boot"`   // 32 hex digits
	Policy  []byte        `json:"policy"` // SHA-256 of the policy file
	Chains  []ChainStatus `json:"chains,omitempty"`
}

// ChainStatus is one chain that the enclave was booted with.
type ChainStatus struct {
	ID      string `json:"id"`
	KeyType string `json:"key_type,omitempty"`
	Public  []byte `json:"public,omitempty"`
	Problem string `json:"problem,omitempty"` // why it cannot sign
	Cure    string `json:"cure,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
	Mark    string `json:"mark,omitempty"`
}

// RawRequest is a request that was read and not decoded yet. Whoever serves several
// connections decodes one at a time: it takes some multiple of the request's size.
type RawRequest []byte

// ReadRawRequest reads a request. An error ends the connection.
func ReadRawRequest(r io.Reader) (RawRequest, error) { return readFrame(r, maxFrame) }

// Limits on a boot. The config is checked against them, since an enclave refuses the
// whole of one that is beyond. A status of so many chains, each with a problem, fits
// into a reply.
const (
	MaxChains = 128
	MaxNodes  = 64  // of a chain
	MaxServed = 256 // nodes of all chains: each takes some 30 kB of what may be 64 MiB
)

// maxValues bounds the values in a request, by the commas between them. "{}," is
// three bytes, and what it decodes to more than a hundred: a megabyte of these would
// be more than the memory of the smallest enclave. A boot with as many chains and
// nodes as an enclave takes has some 1,400; paths of sockets may have commas too.
const maxValues = 4000

// Decode decodes the request.
func (raw RawRequest) Decode() (Request, error) {
	if n := bytes.Count(raw, []byte(",")); n > maxValues {
		return Request{}, fmt.Errorf("a request with %d values, more than %d", n, maxValues)
	}
	var req Request
	if err := decodeStrict(raw, &req); err != nil {
		return Request{}, err
	}
	set := 0
	for _, is := range []bool{req.Hello != nil, req.Create != nil, req.ImportKey != nil, req.Import != nil,
		req.Boot != nil, req.Attest != nil, req.NewState != nil, req.Certify != nil, req.Share != nil, req.Look != nil, req.CloudWrap != nil, req.Recover != nil, req.Sample != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Request{}, fmt.Errorf("a request for %d things at once", set)
	}
	return req, nil
}

// WriteReply writes a reply.
func WriteReply(w io.Writer, reply Reply) error {
	payload, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	return writeFrame(w, payload)
}

// Call sends a request to an enclave and reads its reply. A reply with Error is
// a *[RefusedError].
func Call(conn io.ReadWriter, req Request) (Reply, error) {
	payload, err := json.Marshal(req)
	if err != nil {
		return Reply{}, err
	}
	if err := writeFrame(conn, payload); err != nil {
		return Reply{}, fmt.Errorf("cannot ask the enclave: %w", err)
	}
	payload, err = readFrame(conn, maxFrame)
	if err != nil {
		return Reply{}, fmt.Errorf("no answer from the enclave: %w", err)
	}
	var reply Reply
	if err := decodeStrict(payload, &reply); err != nil {
		return Reply{}, fmt.Errorf("cannot read the enclave's answer: %w", err)
	}
	if reply.Error != "" {
		return Reply{}, &RefusedError{Text: reply.Error, Cure: reply.Cure}
	}
	return reply, nil
}

// RefusedError is why an enclave did not do what it was asked.
type RefusedError struct{ Text, Cure string }

func (e *RefusedError) Error() string {
	if e.Cure == "" {
		return "the enclave refuses: " + e.Text
	}
	return "the enclave refuses: " + e.Text + "; " + e.Cure
}
