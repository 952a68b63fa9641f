package enclavehost

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
)

// Config is one enclave with all that it signs for. Fields are required unless
// they say otherwise.
type Config struct {
	Launcher Launcher
	// Policy is the SHA-256 of the policy file that the enclave is measured with.
	Policy [32]byte
	// KMS is the only place that the enclave can reach by way of us: that of the
	// policy, where it is not a service of this host. Nil for an enclave whose keys no
	// KMS wraps.
	KMS *KMS
	// Restart is the command that ends the enclave, for messages.
	Restart string
	// Etcd is what an enclave needs whose policy names an etcd, and nil for others.
	Etcd *Etcd
	// DynamoDB is the same for a policy that names one.
	DynamoDB *DynamoDB
	Chains   []Chain
	// LogLevel is the enclave's: debug, info, warn or error.
	LogLevel string
	// StopEnclave ends the enclave when Run ends. Optional: otherwise it waits for
	// the next host.
	StopEnclave bool
	Log         *slog.Logger
	// Up is called when an enclave was found or launched, and when it is gone.
	// Optional.
	Up func(bool)
}

// Launcher finds, launches and ends one enclave, and touches no other.
type Launcher interface {
	// Ensure returns our enclave: the one that runs (adopted), or a new one. It never makes
	// a second one, and fails where it cannot be sure.
	Ensure(ctx context.Context) (e Enclave, adopted bool, err error)
	// Alive reports whether an enclave still runs.
	Alive(ctx context.Context, id string) (bool, error)
	// Stop ends an enclave, whatever has become of ctx, and returns when it has ended.
	Stop(ctx context.Context, id string) error
}

// Enclave is one that runs.
type Enclave struct {
	ID   string // as its launcher knows it
	Link Link
	// About is what a log says of it beside the ID, by key and value.
	About []any
}

// ErrEnded is a dial to an enclave that has ended: waiting for it is of no use.
var ErrEnded = errors.New("the enclave has ended")

// Link is how host and enclave reach each other. It protects nothing: what crosses has to be
// protected by those who send it. Its connections are [vsock.Conn]s.
type Link interface {
	// Listen accepts what the enclave dials at a port.
	Listen(port uint32) (net.Listener, error)
	// Dial connects to what the enclave listens on. Where nobody listens is an error soon.
	Dial(ctx context.Context, port uint32) (vsock.Conn, error)
}

// KMS is how the enclave reaches the AWS KMS that its policy names, and who may use it.
type KMS struct {
	Endpoint    policy.Endpoint
	Credentials Source
}

// Etcd is how the enclave reaches the etcd that its policy names. TLS ends inside.
type Etcd struct {
	Endpoints []string      // https://HOST:PORT
	Try       time.Duration // for one of them
	Key       []byte        // the client's, wrapped
	// Certificate returns the client's certificate as it is now, PEM. It is asked often: a
	// renewed one goes to the enclave soon.
	Certificate func() ([]byte, error)
}

// DynamoDB is how the enclave reaches the table that its policy names. TLS ends inside.
type DynamoDB struct {
	Endpoint policy.Endpoint // of the policy
	Try      time.Duration   // for one call
	Role     Role            // who may use the table
}

// Role finds credentials of AWS, and keeps them: it is asked often.
type Role interface {
	Source
	// Refused says that AWS does not accept these any more.
	Refused(secret.AWS)
}

// Source finds credentials of AWS that may use the KMS key.
type Source interface {
	Credentials(context.Context) (secret.AWS, error)
}

// Chain is one chain to sign for.
type Chain struct {
	ID watermark.ID
	// Wrapped is the wrapped key, Identity the wrapped identity; the latter is
	// optional where no node asks for one.
	Wrapped, Identity []byte
	Nodes             []Node
	// Store keeps the records of the enclave. Nobody else writes to it; closing it
	// stays with the caller, after Run has returned.
	Store watermark.Store
	// StateID is what the enclave calls those records, if not ID.
	StateID  watermark.ID
	Observer Observer
	// Closed says why the enclave may not reach its nodes now; nil: it may. A
	// connection that stands ends when Cut is closed. Both are optional.
	Closed func() error
	Cut    <-chan struct{}

	// See the config keys of the same names. 0 is the enclave's default.
	HeightBurst, HeightPerSecond int64
	Idle                         time.Duration
}

// Node is one node of a chain, whom we dial for the enclave.
type Node struct {
	Name string
	// Addr is what the enclave gets, with the peer that it has to expect.
	Addr string
	// Network is unix or tcp, and Address what we dial.
	Network, Address string
	// PeerUID is whom the other end of a unix socket has to belong to, nil for
	// anybody. Linux only.
	PeerUID *uint32
}

// Observer hears of one chain. Its methods are called from several goroutines
// and must not wait: Acked stands between the disk and the signature.
type Observer interface {
	// Status says that the enclave can sign, with which key, or why it cannot.
	Status(keyType string, public []byte, problem error)
	// Acked reports every record that became durable.
	Acked(hostlink.Record)
	// Event reports what became of a request, by the enclave's word.
	Event(hostlink.Event)
	// Node reports a change of the connection to a node: dialling, parked or
	// serving.
	Node(name, state string, err error)
}
