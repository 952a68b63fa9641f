package hostlink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
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
}

// Hello asks who is there.
type Hello struct{}

// Credentials let the enclave call KMS. They are the host's own, and worth nothing
// without an attestation document of this image. Only the JSON of a request shows them.
type Credentials secret.AWS

// wireCredentials are Credentials in a request.
type wireCredentials struct {
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	SessionToken    string    `json:"session_token,omitempty"`
	Expires         time.Time `json:"expires,omitzero"`
}

// MarshalJSON shows the secrets.
func (c Credentials) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireCredentials{c.AccessKeyID, c.SecretAccessKey.Reveal(), c.SessionToken.Reveal(), c.Expires})
}

// LogValue is what slog logs: whose they are. A log in JSON would have them all.
func (c Credentials) LogValue() slog.Value {
	return slog.StringValue("credentials of " + c.AccessKeyID)
}

// LogValue is what slog logs: nothing of what is asked, which may have credentials.
func (r Request) LogValue() slog.Value { return slog.StringValue("request of the host") }

// LogValue is what slog logs: how many chains there are.
func (b Boot) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("boot of %d chains", len(b.Chains)))
}

// UnmarshalJSON hides them.
func (c *Credentials) UnmarshalJSON(data []byte) error {
	var w wireCredentials
	if err := strictjson.Decode(data, &w); err != nil {
		return err
	}
	*c = Credentials{w.AccessKeyID, secret.New(w.SecretAccessKey), secret.New(w.SessionToken), w.Expires}
	return nil
}

// Create makes a key inside, wraps it, and makes the first record of its state.
type Create struct {
	ChainID     string      `json:"chain_id"` // "" for an identity
	KeyType     string      `json:"key_type"`
	Credentials Credentials `json:"credentials"`
}

// Created answers Create, Import and NewState.
type Created struct {
	KeyType  string `json:"key_type"`
	Public   []byte `json:"public"`
	Wrapped  []byte `json:"wrapped"`
	Record   []byte `json:"record,omitempty"` // sealed; absent for an identity
	Document []byte `json:"document"`         // attestation, purpose "create"
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

// Boot opens the wrapped keys and begins to sign. Sent again, by a host that
// was restarted, it changes nodes and levels and leaves keys and marks alone.
type Boot struct {
	Credentials Credentials `json:"credentials"`
	Chains      []BootChain `json:"chains"`
	LogLevel    string      `json:"log_level"`
	// Etcd is what an image needs whose policy has the marks in etcd, and nil for others.
	// Sent again with the same key it changes the certificate, and not the members.
	Etcd *BootEtcd `json:"etcd,omitempty"`
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
	Created  *Created `json:"created,omitempty"`  // Create, Import, NewState
	Document []byte   `json:"document,omitempty"` // Attest, ImportKey
	Request  []byte   `json:"request,omitempty"`  // Certify
	Shared   *Shared  `json:"shared,omitempty"`   // Share
	Looked   *Looked  `json:"looked,omitempty"`   // Look
}

// Status is what an enclave says of itself. None of it is attested.
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

// Limits on a boot. The config is held against them, since an enclave refuses the
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
		req.Boot != nil, req.Attest != nil, req.NewState != nil, req.Certify != nil, req.Share != nil, req.Look != nil} {
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

func decodeStrict(payload []byte, v any) error {
	if err := strictjson.Decode(payload, v); err != nil {
		return fmt.Errorf("malformed message: %w", err)
	}
	return nil
}

// NodeHello is the first frame of a connection to NodePort: which node, by
// chain id and name. The host answers with a frame that is empty, or says why
// not; then the bytes of the node follow.
type NodeHello struct {
	ChainID string `json:"chain_id"`
	Node    string `json:"node"`
}

// OpenNode asks the host on conn to connect it to a node.
func OpenNode(conn io.ReadWriter, hello NodeHello) error { return openHello(conn, hello) }

func openHello(conn io.ReadWriter, hello any) error {
	payload, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	if err := writeFrame(conn, payload); err != nil {
		return err
	}
	answer, err := readFrame(conn, 1024)
	if err != nil {
		return fmt.Errorf("the host does not connect us: %w", err)
	}
	if len(answer) > 0 {
		return fmt.Errorf("the host says: %.1024q", answer)
	}
	return nil
}

// ReadNodeHello reads the first frame of a connection to NodePort.
func ReadNodeHello(r io.Reader) (hello NodeHello, err error) {
	payload, err := readFrame(r, 1024)
	if err != nil {
		return hello, err
	}
	return hello, decodeStrict(payload, &hello)
}

// AnswerNode answers a NodeHello or an EtcdHello: nil for a connection that was made.
func AnswerNode(w io.Writer, err error) error {
	if err == nil {
		return writeFrame(w, nil)
	}
	text := err.Error()
	return writeFrame(w, []byte(text[:min(len(text), 512)]))
}

// BootEtcd is how an enclave reaches the etcd that its policy names. It is the host's to
// give: TLS ends inside, and says whether it is that etcd.
type BootEtcd struct {
	Endpoints []string `json:"endpoints"` // https://HOST:PORT, 1 to MaxEndpoints
	// Try is how long one member is waited for, 0 for the standard one. The enclave brings it
	// between MinTry and MaxTry.
	Try time.Duration `json:"try,omitempty"`
	// Key is the client's key, wrapped as an identity is, and Certificate the one of it, PEM,
	// with those between it and the CA after it.
	Key         []byte `json:"key"`
	Certificate []byte `json:"certificate"`
}

// Limits on BootEtcd.
const (
	MaxEndpoints   = 16
	MaxEndpoint    = 300      // bytes of an endpoint
	MaxCertificate = 16 << 10 // bytes of Certificate

	MinTry, MaxTry = 150 * time.Millisecond, 300 * time.Millisecond
)

// Certify asks for a certificate request, PEM, of the client's key, which is wrapped as an
// identity is.
type Certify struct {
	Key         []byte      `json:"key"`
	Name        string      `json:"name"` // the common name: the user of etcd
	Credentials Credentials `json:"credentials"`
}

// What a Share does.
const (
	// ShareCreate makes the mark in etcd at that of State, or raises it to that where there
	// is one, and joins this host. Repeated, it does no harm.
	ShareCreate = "create"
	// ShareJoin joins this host to the mark that is there.
	ShareJoin = "join"
	// ShareExport ends the mark in etcd for all signers, and returns what it held as a State.
	ShareExport = "export"
	// ShareAdopt takes a mark that was restored back into use. Only an image whose policy
	// has a state_floor for the chain does so, and raises it to AfterHeight, which is not
	// below that.
	ShareAdopt = "adopt"
)

// Share does something with the mark of a chain in etcd which only an enclave can do,
// because what is there is authenticated with the consensus key.
type Share struct {
	Do          string      `json:"do"`
	ChainID     string      `json:"chain_id"`
	Wrapped     []byte      `json:"wrapped"`
	State       []byte      `json:"state,omitempty"` // sealed: the record of the host, at which ShareCreate begins
	Floor       []byte      `json:"floor,omitempty"` // sealed: what this host has joined with already
	AfterHeight int64       `json:"after_height,omitempty"`
	Etcd        BootEtcd    `json:"etcd"`
	Credentials Credentials `json:"credentials"`
}

// Shared answers Share.
type Shared struct {
	Floor   []byte `json:"floor"`             // sealed: what this host keeps from here on
	State   []byte `json:"state,omitempty"`   // sealed: of ShareExport
	Mark    string `json:"mark"`              // that is in etcd now
	At      Looked `json:"at"`                // the same, without sign bytes
	Lineage string `json:"lineage,omitempty"` // of what is in etcd, in hex
}

// Look asks for the mark in etcd of a chain that the enclave signs for, at least up to the one
// that it names: for a witness of the host, which has to know what other signers make.
type Look struct {
	ChainID string `json:"chain_id"`
	Height  int64  `json:"height,omitempty"`
	Round   int32  `json:"round,omitempty"`
	Step    uint8  `json:"step,omitempty"`
}

// Looked answers Look. The sign bytes are those of a vote or proposal that the nodes make public.
type Looked struct {
	Height    int64  `json:"height,omitempty"`
	Round     int32  `json:"round,omitempty"`
	Step      uint8  `json:"step,omitempty"`
	SignBytes []byte `json:"sign_bytes,omitempty"`
}

// EtcdHello is the first frame of a connection to EtcdPort: which member, as host:port. The
// host answers as it does to a NodeHello; then the bytes of the member follow.
type EtcdHello struct {
	Address string `json:"address"`
}

// OpenEtcd asks the host on conn to connect it to a member of etcd.
func OpenEtcd(conn io.ReadWriter, hello EtcdHello) error { return openHello(conn, hello) }

// ReadEtcdHello reads the first frame of a connection to EtcdPort.
func ReadEtcdHello(r io.Reader) (hello EtcdHello, err error) {
	payload, err := readFrame(r, 1024)
	if err != nil {
		return hello, err
	}
	return hello, decodeStrict(payload, &hello)
}
