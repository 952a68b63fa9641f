package provider

import "time"

// Cluster is a database with the marks of chains, as this host sees it: how each of its
// members does, whether a signer is using that one or not. None of it is a secret.
type Cluster struct {
	Store, Name string // [STORE.NAME] of the config
	// Problem is why none was, "" if they were.
	Problem string
	// Expires is when our certificate ends, zero if there is none.
	Expires time.Time
	// Voters is how many members the database has by its own account, 0 if nobody said.
	Voters int
	// Alarms are those that the database has raised, by which it stops to write; nil if nobody
	// said whether there are any.
	Alarms  []string
	Members []ClusterMember // in the order of the config
}

// ClusterMember is one endpoint of a [Cluster].
type ClusterMember struct {
	Address string
	Failed  string // why it does not serve, "" if it does; then the rest is not known
	Version string
	// Leader says that it leads the others, Led that one of them does.
	Leader, Led bool
	Took        float64 // of a question that it answers by itself, in seconds
	Size, Quota uint64  // of its database in bytes; quota 0: not known
	Expires     time.Time
}
