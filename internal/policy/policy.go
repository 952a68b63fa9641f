// Package policy is what decides an enclave's security: a file that is measured with the
// program, so that PCR2 and PCR0 of an AWS Nitro enclave name it, and MRENCLAVE of one of
// Intel SGX. The host can choose among measured policies, and nothing within one.
//
// There are two kinds, after what keeps secrets outside: a key of AWS KMS, or the seal key
// of a CPU, with a backup for the holder of a recovery key.
//
// Where a decision is not in here, the host may make it: addresses, ports, log
// level. Chain and public key come authenticated with the wrapped key.
package policy

import (
	"crypto/x509"
	"slices"
	"strings"
)

// File is the name of the policy in the image's second ramdisk.
const File = "policy.json"

// MaxSize bounds the file in bytes.
const MaxSize = 1 << 20

// Policy is one policy file: a JSON object with these keys. Unknown, duplicate and
// missing keys are errors; where a key may be absent, its zero value is the
// strictest. It is of one [Kind], which its keys say: those of KMS, or those of [SGX].
type Policy struct {
	// KMSKey is the ARN of the AWS KMS key under which secrets leave the enclave:
	// arn:PARTITION:kms:REGION:ACCOUNT:key/ID, no alias. Required for Nitro.
	KMSKey string `json:"kms_key,omitempty"`
	// KMSEndpoint is the host:port that the host connects us to; IPv6 is in
	// brackets. Required for Nitro.
	KMSEndpoint string `json:"kms_endpoint,omitempty"`
	// KMSServerName is the DNS name that the TLS certificate has to have. Required for
	// Nitro: for private endpoints it is not the host that is dialled.
	KMSServerName string `json:"kms_server_name,omitempty"`
	SGX
	// TLSRoots are the roots, PEM, one of which has to stand above the certificates of
	// KMS and DynamoDB. Required where one of both is named.
	TLSRoots string `json:"tls_roots,omitempty"`
	// AttestationRoot is the root, PEM, of the attestation documents, or quotes. Absent,
	// and in production always, it is that of AWS, or Intel.
	AttestationRoot string `json:"attestation_root,omitempty"`

	// Chains are the chain ids that may be signed for, and PublicKeys the keys that
	// may sign: standard base64 of what pubkey.New takes. Absent: any that the
	// wrapped key names. An empty list is an error: it looks like none.
	Chains     []string `json:"chains,omitempty"`
	PublicKeys []string `json:"public_keys,omitempty"`

	// AllowSignBytes and AllowRawBytes let a node have bytes of its own choice
	// signed; see the config keys of the same names.
	AllowSignBytes bool `json:"allow_sign_bytes,omitempty"`
	AllowRawBytes  bool `json:"allow_raw_bytes,omitempty"`
	// MaxHeight is the highest height that is ever signed. 0: no bound.
	MaxHeight int64 `json:"max_height,omitempty"`
	// StateFloor gives, by chain id, the height at and below which nothing is
	// signed. A chain in here may have a lost state replaced by a new one, above its floor.
	StateFloor map[string]int64 `json:"state_floor,omitempty"`

	// Etcd or DynamoDB is where the marks are. Both absent: the host keeps them, and no
	// enclave of this image asks a database for anything.
	Etcd
	DynamoDB
}

// SGX says what keeps the secrets of an enclave of Intel SGX outside of it. Its keys stand
// in a policy both or not at all.
type SGX struct {
	// Seal is which key of the CPU they are sealed under: [SealMRENCLAVE] or [SealMRSIGNER].
	Seal string `json:"sgx_seal,omitempty"`
	// RecoveryKey is who can open the backup that is made of each key, as [ParseRecipient]
	// reads it. Without a backup a key is lost with its CPU, and with each update of the
	// CPU's microcode.
	RecoveryKey string `json:"recovery_key,omitempty"`
}

// Etcd names an etcd cluster that keeps the marks of all chains. Its keys stand in a
// policy all or not at all; what is not in here, the addresses of the members and the
// client's certificate, is the host's to give.
type Etcd struct {
	// CA are the roots, PEM, one of which has to stand above the certificate of each
	// member.
	CA string `json:"etcd_ca,omitempty"`
	// ServerNames are DNS names and IP addresses, one of which the certificate of each
	// member has to have.
	ServerNames []string `json:"etcd_server_names,omitempty"`
	// ClusterID is the cluster's id in 16 hex digits, as etcd logs it: under one CA there
	// may be other clusters.
	ClusterID string `json:"etcd_cluster_id,omitempty"`
	// Prefix is what the names of our keys begin with, as in /privyseal.
	Prefix string `json:"etcd_prefix,omitempty"`
}

// DynamoDB names a table of Amazon DynamoDB that keeps the marks of all chains. Its keys
// stand in a policy all or not at all. The credentials are the host's to give: whoever has
// them can put an old value into the table.
type DynamoDB struct {
	// Table is the name of the table, and TableID its TableId: a table that was made again,
	// or restored from a backup, has another one. Whoever gives the credentials cannot choose
	// that of a table of his own.
	Table   string `json:"dynamodb_table,omitempty"`
	TableID string `json:"dynamodb_table_id,omitempty"`
	// TableRegion is the region that it is in.
	TableRegion string `json:"dynamodb_region,omitempty"`
	// TableEndpoint is the host:port that the host connects us to, by a certificate of that
	// host below TLSRoots.
	TableEndpoint string `json:"dynamodb_endpoint,omitempty"`
}

// Roots returns the pool of TLSRoots.
func (p *Policy) Roots() *x509.CertPool { return pool(p.TLSRoots) }

func pool(text string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(text))
	return pool
}

// Region returns the AWS region of the KMS key, which a policy of Nitro has.
func (p *Policy) Region() string { return strings.Split(p.KMSKey, ":")[3] }

// AllowsChain reports whether the chain may be signed for.
func (p *Policy) AllowsChain(id string) bool {
	return len(p.Chains) == 0 || slices.Contains(p.Chains, id)
}

// AllowsKey reports whether the public key, base64, may sign.
func (p *Policy) AllowsKey(public string) bool {
	return len(p.PublicKeys) == 0 || slices.Contains(p.PublicKeys, public)
}

// Endpoint returns the endpoint of KMS, which a policy of Nitro has.
func (p *Policy) Endpoint() Endpoint {
	return Endpoint{Service: "KMS", Address: p.KMSEndpoint, Test: p.AttestationRoot != ""}
}

// OfTable returns the endpoint of DynamoDB.
func (p *Policy) OfTable() Endpoint {
	return Endpoint{Service: "DynamoDB", Address: p.TableEndpoint, Test: p.AttestationRoot != ""}
}
