package nitrohost

import (
	"context"
	"log/slog"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// Config is one enclave with all that it signs for. Fields are required unless
// they say otherwise.
type Config struct {
	Launcher *Launcher
	// Dir is the folder with the unix sockets of the monitor that the enclave runs
	// in; empty is AF_VSOCK, whose ports all enclaves of an instance share.
	Dir string
	// Policy is the SHA-256 of the policy file in the image.
	Policy [32]byte
	// KMS is the only place that the enclave can reach by way of us: that of the
	// policy, where it is not a service of this host.
	KMS         policy.Endpoint
	Credentials Source
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
