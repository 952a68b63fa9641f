// Package enclave is what runs inside: the process of an enclave that holds the
// consensus keys, signs with them through the same core as everywhere, and answers its
// host. It is the same in every kind of enclave. What differs (how it boots, who signs
// its documents, what its keys are wrapped under) has a package of its own in a folder
// below, such as nitro, which imports this one.
//
// The host is not trusted with anything but liveness. It gives addresses, log
// level, wrapped keys and its own AWS credentials; what decides security is in
// the measured policy or comes authenticated with the wrapped key. Secrets are
// made here or opened here, and leave only as the Wrapper wraps them.
package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/oplog"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/sharedmark"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// Attester proves to others what runs here.
type Attester interface {
	// Attest returns a document, signed by what the enclave runs on, that holds these
	// fields and the measurements of this image; nil leaves a field out.
	Attest(userData, nonce, publicKey []byte) (document []byte, err error)
}

// Wrapper makes of a key what the host keeps, and a key of that again. It does so for
// this image and for those that the operator lets in, and for nobody else. The
// credentials are the host's, as far as it needs some. An error is for an operator; it
// may have a method Cure() string.
type Wrapper interface {
	// Wrap encrypts a key with all that is said of it.
	Wrap(ctx context.Context, c secret.AWS, k secret.Key) (wrapped []byte, err error)
	// Unwrap opens what Wrap returned; whatever else it is given is an error. Which of
	// all wrapped keys the host hands in is for the caller to check.
	Unwrap(ctx context.Context, c secret.AWS, wrapped []byte) (secret.Key, error)
	// Decrypt opens a secret that others encrypted, which says nothing about its origin.
	Decrypt(ctx context.Context, c secret.AWS, file []byte) ([]byte, error)
}

// Recovery makes of each new key what the holder of a recovery key can open, and nobody else,
// and brings such a key back. Only enclaves whose policy names a recovery key have one: what
// they wrap opens on one machine alone.
type Recovery interface {
	// Backup encrypts a key for the holder of the policy's recovery key.
	Backup(k secret.Key) (file []byte, err error)
	// WrapKey makes an RSA key that the key of a backup can be encrypted to. Its private half
	// is wrapped as keys are, and opens as nothing else; public is in the form of PKIX.
	WrapKey() (wrapped, public []byte, err error)
	// Recover opens a backup with its key, which is encrypted to a WrapKey. Whoever knows a
	// secret can make a backup of it, so that nothing in there proves where a key is from.
	Recover(wrapKey, encrypted, backup []byte) (secret.Key, error)
}

// Cures are the ends of what an operator is asked to do.
type Cures struct {
	Restart   string // what ends the enclave, so that another one is launched
	Rebuild   string // how to come to an enclave whose policy allows what this one's does not
	LostState string // where all steps are that replace a lost state
}

// Members is how the mark of a chain is reached in the etcd of the policy.
type Members struct {
	Endpoints []string      // https://HOST:PORT
	Try       time.Duration // for one of them; 0: the standard one
	Prefix    string        // of keys
	ID        watermark.ID
	// Dial connects to HOST:PORT by way of the host. TLS is asked for each connection, and
	// what it returns says whether the other end is the etcd of the policy.
	Dial func(ctx context.Context, hostport string) (net.Conn, error)
	TLS  func() (*tls.Config, error)
}

// Table is how the mark of a chain is reached in the DynamoDB of the policy.
type Table struct {
	Policy *policy.Policy
	Try    time.Duration // for one call; 0: the standard one
	ID     watermark.ID
	// Dial connects to the endpoint of the policy by way of the host. Who is at the other end
	// is for TLS to say.
	Dial func(context.Context) (net.Conn, error)
	Role Role
}

// Role is who the host is for AWS. It is asked before each call, so it keeps what it found.
type Role interface {
	Credentials(context.Context) (secret.AWS, error)
	// Refused says that AWS does not accept these any more.
	Refused(secret.AWS)
}

// Config is what an enclave runs with. All fields are required but Sample and Warnings; Etcd and
// DynamoDB where the policy names one, and Recovery where it names a recovery key, and
// nowhere else.
type Config struct {
	Version  string
	Policy   *policy.Policy
	Digest   [32]byte // SHA-256 of the policy file
	Attester Attester
	Wrapper  Wrapper
	Recovery Recovery
	// Sample returns answers of KMS, none of which holds or opens a secret; nil where keys are
	// not under a KMS key.
	Sample func(context.Context, *hostlink.Sample) []hostlink.KMSAnswer
	// Etcd returns an engine for one use, whose Position.Medium is the id of the cluster, 8
	// bytes big-endian, and zeros.
	Etcd func(Members) sharedmark.Engine
	// DynamoDB returns an engine for one use, on no other table than the one with the policy's
	// TableId.
	DynamoDB func(Table) (sharedmark.Engine, error)
	Cures    Cures
	// Listen listens on a port for the host; Dial dials a port of the host.
	Listen func(port uint32) (net.Listener, error)
	Dial   func(ctx context.Context, port uint32) (net.Conn, error)
	// Warnings are logged at the start: what is not as it should be with the machine.
	Warnings []string
}

// Limits on the host.
const (
	maxControls    = 8                // connections to ControlPort at once
	requestTimeout = 2 * time.Minute  // the Wrapper's KMS included
	maxText        = 1 << 10          // bytes of an error in a reply: some quote the host
	openTimeout    = 10 * time.Second // for the host to dial a node
)

// enclave is the state of a boot.
type enclave struct {
	c     Config
	boot  [16]byte
	log   *slog.Logger
	level *slog.LevelVar
	lines *oplog.Queue[hostlink.Line]

	// mu is held for each request: the host's requests are few.
	mu        sync.Mutex
	chains    map[string]*chain
	importKey *rsa.PrivateKey // of this boot; nil until somebody asks
	imported  map[watermark.ID]bool
	database  database // of the policy; nil until a boot gives what it needs, and for policies without
}

// chain is one chain that this enclave was booted with. A chain keeps its key
// and its mark for the life of the enclave; nodes come and go with the host.
type chain struct {
	id      string
	key     *soft.Key // nil: it could not be opened
	origin  string
	problem error

	signer *signer.Signer // nil: it cannot sign
	mac    hostlink.Key   // of its records
	start  watermark.Mark // that this boot began with
	store  string         // as documents name it; "" is the host

	wrapped  []byte // as it was booted with
	identity ed25519.PrivateKey
	nodes    []hostlink.BootNode
	served   int // nodes that there are sessions for, at most
	cancel   context.CancelFunc
	group    *sync.WaitGroup
}

// database is how the marks are reached, where the policy has them in one.
type database interface {
	// engine returns an engine for one use with a mark.
	engine(e *enclave, id watermark.ID) (sharedmark.Engine, error)
}

// members is how the etcd of the policy is reached. The host gives addresses and the
// certificate of the client; whose etcd it is, TLS decides in here.
type members struct {
	endpoints []string
	try       time.Duration
	wrapped   []byte
	key       ed25519.PrivateKey

	mu          sync.Mutex
	certificate tls.Certificate
}

func clip(s string) string {
	// A copy: what is cut off may be a megabyte, and the rest stays for long.
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), maxText)], ""))
}

// tryOf returns for how long a member or a call is waited for. The host could hold up each one
// as well; here it is kept from doing so by mistake.
func tryOf(try, shortest, longest time.Duration) time.Duration {
	if try == 0 {
		return 0
	}
	return min(max(try, shortest), longest)
}

// curedError is an error with the next thing to do for an operator.
type curedError struct {
	err  error
	cure string
}

func (c *curedError) Error() string { return c.err.Error() }
func (c *curedError) Unwrap() error { return c.err }

func cureOf(err error) string {
	// An error of the Wrapper may bring its own.
	if c, ok := errors.AsType[interface {
		error
		Cure() string
	}](err); ok {
		return c.Cure()
	}
	if c, ok := errors.AsType[*curedError](err); ok {
		return c.cure
	}
	return ""
}
