package hostlink

import "time"

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

// BootDynamoDB is what the host has to say of the DynamoDB that the policy names.
type BootDynamoDB struct {
	// Try is how long one call is waited for, 0 for the standard time. The enclave brings it
	// between MinTableTry and MaxTableTry.
	Try time.Duration `json:"try,omitempty"`
}

// Limits on BootDynamoDB.
const MinTableTry, MaxTableTry = 50 * time.Millisecond, 2 * time.Second

// Certify asks for a certificate request, PEM, of the client's key, which is wrapped as an
// identity is.
type Certify struct {
	Key         []byte      `json:"key"`
	Name        string      `json:"name"` // the common name: the user of etcd
	Credentials Credentials `json:"credentials"`
}

// What a Share does.
const (
	// ShareCreate makes the mark in the database at that of State, or raises it to that where there
	// is one, and joins this host. Repeated, it does no harm.
	ShareCreate = "create"
	// ShareJoin joins this host to the mark that is there.
	ShareJoin = "join"
	// ShareExport ends the mark there for all signers, and returns what it held as a State.
	ShareExport = "export"
	// ShareAdopt takes a mark that was restored back into use. Only an image whose policy
	// has a state_floor for the chain does so, and raises it to AfterHeight, which is not
	// below that.
	ShareAdopt = "adopt"
)

// Share does something with the mark of a chain in a database which only an enclave can do,
// because what is there is authenticated with the consensus key.
type Share struct {
	Do          string      `json:"do"`
	ChainID     string      `json:"chain_id"`
	Wrapped     []byte      `json:"wrapped"`
	State       []byte      `json:"state,omitempty"` // sealed: the record of the host, at which ShareCreate begins
	Floor       []byte      `json:"floor,omitempty"` // sealed: what this host has joined with already
	AfterHeight int64       `json:"after_height,omitempty"`
	Credentials Credentials `json:"credentials"`

	// That of the two which a boot would have.
	Etcd     *BootEtcd     `json:"etcd,omitempty"`
	DynamoDB *BootDynamoDB `json:"dynamodb,omitempty"`
}

// Shared answers Share.
type Shared struct {
	Floor   []byte `json:"floor"`             // sealed: what this host keeps from here on
	State   []byte `json:"state,omitempty"`   // sealed: of ShareExport
	Mark    string `json:"mark"`              // that is there now
	At      Looked `json:"at"`                // the same, without sign bytes
	Lineage string `json:"lineage,omitempty"` // of what is there, in hex
}

// Look asks for the mark in the database of a chain that the enclave signs for, at least up to the one
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
