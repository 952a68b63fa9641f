package monitor

import (
	"slices"
	"time"

	"privyseal/internal/witness"
)

// Snapshot is the state of a running signer, as `privyseal status --json`
// prints it.
type Snapshot struct {
	Version string          `json:"version"`
	PID     int             `json:"pid"`
	Started time.Time       `json:"started"`
	Ready   bool            `json:"ready"` // as /readyz says it
	Chains  []ChainSnapshot `json:"chains"`

	Listeners []Listener `json:"listeners,omitempty"`
	// Clusters are the databases in which chains have their marks.
	Clusters []Cluster `json:"clusters,omitempty"`
	// Findings are what a check of these has found, some minutes ago at most.
	Findings []Findings `json:"findings,omitempty"`
}

// ChainSnapshot is the state of one chain.
type ChainSnapshot struct {
	Name     string `json:"name"` // the id, unless the config says otherwise
	ID       string `json:"chain_id"`
	PubKey   string `json:"public_key,omitempty"` // base64
	KeyType  string `json:"key_type,omitempty"`
	Address  string `json:"address,omitempty"` // hexadecimal
	Provider string `json:"provider,omitempty"`
	Ready    bool   `json:"ready"` // key and state are loaded
	// Problem is why nothing is signed, also of a chain that is ready: its state is refused, as
	// after a restore, until an operator acts.
	Problem     string         `json:"problem,omitempty"`
	Height      int64          `json:"height"` // of the mark
	Round       int32          `json:"round"`
	Step        string         `json:"step"`
	MarkTime    time.Time      `json:"mark_time"`
	AgeSeconds  float64        `json:"mark_age_seconds"`
	Signed      Signed         `json:"last_signed"`
	LastRefusal *Refusal       `json:"last_refusal,omitempty"`
	Nodes       []NodeSnapshot `json:"nodes"`
	// Devices are those that sign with the key, absent where this process does.
	Devices []Device `json:"devices,omitempty"`
	// Witness is absent where nobody watches the chain.
	Witness *witness.Snapshot `json:"witness,omitempty"`
}

// SomeDevice reports whether one of the devices that sign for a chain may do so, or no
// device does.
func (c ChainSnapshot) SomeDevice() bool {
	return len(c.Devices) == 0 || slices.ContainsFunc(c.Devices, func(d Device) bool { return d.Failed == "" })
}

// Signed says which node was served first with the current mark, and when.
type Signed struct {
	Node string    `json:"node,omitempty"`
	Time time.Time `json:"time,omitzero"`
}

// Refusal is the last request of a chain that was refused for good.
type Refusal struct {
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`
	Reason string    `json:"reason"`
	Text   string    `json:"text"`
}

// NodeSnapshot is the state of one node's connection.
type NodeSnapshot struct {
	Name       string    `json:"name"`
	Addr       string    `json:"addr"`
	State      string    `json:"state"` // dialling, parked or serving
	Since      time.Time `json:"since"`
	Reconnects int       `json:"reconnects"`
	LastError  string    `json:"last_error,omitempty"`
}

// Device is how a device or server does that signs for a chain. None of it is a secret.
type Device struct {
	Address string `json:"address"`
	Name    string `json:"name,omitempty"` // what it says about itself, "" if it was never reached
	// Failed is why it is not asked to sign while another one does, "" if nothing is wrong
	// with it, and Since when it last became "" or something else.
	Failed string    `json:"failed,omitempty"`
	Since  time.Time `json:"since"`
	// Signatures counts those of this chain's key, and Took is how long they took in seconds,
	// LastTook the last one, without the time in a queue of ours.
	Signatures uint64  `json:"signatures"`
	Took       float64 `json:"took_seconds"`
	LastTook   float64 `json:"last_took_seconds"`
	// LogUsed and LogSize are entries of the audit log of a device that has one.
	LogUsed int `json:"log_used,omitempty"`
	LogSize int `json:"log_size,omitempty"`
	// Audited says that the signer drains this log and checks what is in it, and Undrained
	// why it cannot, "" if it can. Foreign counts the signatures with this key in it that no
	// signer of ours asked for.
	Audited   bool   `json:"log_audited,omitempty"`
	Undrained string `json:"log_undrained,omitempty"`
	Foreign   int    `json:"foreign_signatures,omitempty"`
}

// Cluster is how the members of a database with marks do, as this host saw it last. None of
// it is a secret.
type Cluster struct {
	Store   string    `json:"store"`
	Name    string    `json:"name"`
	Looked  time.Time `json:"looked"`
	Problem string    `json:"problem,omitempty"` // why nobody was asked
	// Expires is when our certificate ends.
	Expires time.Time       `json:"certificate_expires,omitzero"`
	Voters  int             `json:"voters,omitempty"`  // members that it has by its own account
	Alarms  []string        `json:"alarms,omitempty"`  // nil also where nobody said
	Members []ClusterMember `json:"members,omitempty"` // those that the config names
}

// Findings counts what `privyseal check` has found to be wrong with a database, and what is
// in doubt.
type Findings struct {
	Store    string `json:"store"`
	Name     string `json:"name"`
	Failed   int    `json:"failed"`
	Doubtful int    `json:"doubtful"`
}

// ClusterMember is one of them.
type ClusterMember struct {
	Address string `json:"address"`
	Failed  string `json:"failed,omitempty"` // why it does not serve, "" if it does
	Version string `json:"version,omitempty"`
	Leader  bool   `json:"leader"`
	Led     bool   `json:"led"` // it knows a leader
	// Took is the round trip of a question to it, in seconds.
	Took    float64   `json:"took_seconds"`
	Size    uint64    `json:"size"`            // of its database, in bytes
	Quota   uint64    `json:"quota,omitempty"` // which that may reach
	Expires time.Time `json:"certificate_expires,omitzero"`
}

// Listener is something beside the nodes that is listened on. That it fails stops no
// signature, so it has to be said.
type Listener struct {
	Name    string `json:"name"` // MetricsListener or StatusListener
	Addr    string `json:"addr"`
	Problem string `json:"problem,omitempty"` // why nobody is served; "" if it works
}

// The listeners beside the nodes, as labels.
const (
	MetricsListener = "metrics"
	StatusListener  = "status"
)
