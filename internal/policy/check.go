package policy

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"privyseal/internal/awsjson"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// KeyError is a key of the policy file whose value nothing could ever meet, or
// that means something else than it seems to.
type KeyError struct {
	Key string // as it stands in the file, as in "kms_endpoint"
	Err error  // what is wrong with the value, and what it should look like
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// keyCheck is a key of the policy with what is wrong with its value, if something is.
type keyCheck struct {
	key string
	err error
}

// first returns the first of the keys that has something wrong.
func first(checks []keyCheck) error {
	for _, c := range checks {
		if c.err != nil {
			return &KeyError{c.key, c.err}
		}
	}
	return nil
}

// check finds what could not be meant. What is wrong in a measured policy is
// otherwise found by an enclave that refuses to sign.
func (p *Policy) check() error {
	if err := p.checkKind(); err != nil {
		return err
	}
	err := first([]keyCheck{
		{"attestation_root", checkOptionalPEM(p.AttestationRoot)},
		{"chains", checkEach(p.Chains, checkChainID)},
		{"public_keys", checkEach(p.PublicKeys, checkPublicKey)},
		{"max_height", checkHeight(p.MaxHeight)},
		{"state_floor", p.checkFloors()},
	})
	if err != nil {
		return err
	}
	if err := p.Etcd.check(); err != nil {
		return err
	}
	return p.checkTable()
}

// checkKind requires what keeps secrets, all of it, and once.
func (p *Policy) checkKind() error {
	kms := p.KMSKey != "" || p.KMSEndpoint != "" || p.KMSServerName != ""
	sealed := p.SGX != SGX{}
	switch {
	case kms && sealed:
		return &KeyError{"sgx_seal", errors.New("the policy names a KMS, too: secrets leave an enclave under a KMS key, or sealed by the CPU with a backup to the recovery_key")}
	case sealed:
		return p.checkSealed()
	case !kms:
		return &KeyError{"kms_key", errors.New("it is missing, and so is sgx_seal: a policy for AWS Nitro Enclaves has the one, and a policy for Intel SGX the other")}
	}
	return p.checkKMS()
}

func (p *Policy) checkKMS() error {
	return first([]keyCheck{
		{"kms_key", checkKeyARN(p.KMSKey)},
		{"kms_endpoint", p.Endpoint().check()},
		{"kms_server_name", checkServerName(p.KMSServerName)},
		{"tls_roots", checkPEM(p.TLSRoots)},
	})
}

func (p *Policy) checkSealed() error {
	_, recipient := ParseRecipient(p.RecoveryKey)
	return first([]keyCheck{
		{"sgx_seal", checkSeal(p.Seal)},
		{"recovery_key", recipient},
		{"tls_roots", p.checkSealedRoots()},
	})
}

func checkSeal(name string) error {
	switch name {
	case SealMRENCLAVE, SealMRSIGNER:
		return nil
	case "":
		return errors.New(`it is missing: "mrenclave" seals to this program with this policy, "mrsigner" to all that the same key has signed`)
	}
	return errors.New(`it is neither "mrenclave" nor "mrsigner"`)
}

// checkSealedRoots requires roots for DynamoDB, and none that nothing is checked against.
func (p *Policy) checkSealedRoots() error {
	switch {
	case p.DynamoDB != DynamoDB{}:
		return checkPEM(p.TLSRoots)
	case p.TLSRoots != "":
		return errors.New("without a dynamodb_table no certificate is checked against them")
	}
	return nil
}

// checkKeyARN requires the ARN of a key itself: an alias can be pointed elsewhere
// after the policy was measured.
func checkKeyARN(arn string) error {
	const lower = "abcdefghijklmnopqrstuvwxyz"
	only := func(s, chars string) bool { return s != "" && strings.Trim(s, chars) == "" }
	p := strings.Split(arn, ":")
	// A region has no dots: it is a part of the name that KMS has to prove (CheckKMS).
	if len(arn) > 160 || len(p) != 6 || p[0] != "arn" || p[1] != "aws" && !(strings.HasPrefix(p[1], "aws-") && only(p[1], lower+"-")) || p[2] != "kms" ||
		!only(p[3], lower+digits+"-") || len(p[4]) != 12 || !only(p[4], digits) ||
		!strings.HasPrefix(p[5], "key/") || !only(p[5][len("key/"):], letters+digits+"-") {
		return fmt.Errorf("%q is not the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID", arn)
	}
	return nil
}

func checkServerName(name string) error {
	if !isDNSName(name) {
		return fmt.Errorf("%q is not a DNS name, which the certificate of KMS has to have, as in kms.eu-central-1.amazonaws.com", name)
	}
	return nil
}

func checkEach(list []string, check func(string) error) error {
	if list != nil && len(list) == 0 {
		return errors.New("the list is empty; leave it out if any may be signed for")
	}
	for _, s := range list {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkChainID(id string) error {
	if !watermark.ValidChainID(id) {
		return fmt.Errorf("%q is not a chain id: 1 to 50 of A-Z a-z 0-9 . _ - that do not start with a dot", id)
	}
	return nil
}

// checkPublicKey requires a key that exists, in the spelling that it is compared in.
func checkPublicKey(text string) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(raw) != text {
		return fmt.Errorf("%.80q is not a public key in standard base64, as `privyseal key show --format base64` prints it", text)
	}
	for _, t := range pubkey.Types() {
		if _, err = pubkey.New(t, raw); err != nil {
			continue
		}
		if !pubkey.SignsInConstantTime(t) {
			return fmt.Errorf("%.80q is a %s key, and such keys are refused in enclaves: how long they take to sign depends on the secret", text, t)
		}
		return nil
	}
	return fmt.Errorf("%.80q holds %d bytes that are not a public key of any type", text, len(raw))
}

func checkHeight(height int64) error {
	if height < 0 {
		return fmt.Errorf("%d is negative", height)
	}
	return nil
}

// checkFloors requires floors of chains that are signed for, above which something is.
// The floor of a mistyped chain would leave the one that was meant without.
func (p *Policy) checkFloors() error {
	for _, id := range slices.Sorted(maps.Keys(p.StateFloor)) {
		floor := p.StateFloor[id]
		if err := errors.Join(checkChainID(id), checkHeight(floor)); err != nil {
			return err
		}
		switch {
		case !p.AllowsChain(id):
			return fmt.Errorf("it has chain %q, which the policy does not let sign: that lets %s", id, strings.Join(p.Chains, ", "))
		case p.MaxHeight != 0 && floor >= p.MaxHeight:
			return fmt.Errorf("the floor %d of chain %q is not below the maximal height %d: nothing would ever be signed", floor, id, p.MaxHeight)
		}
	}
	return nil
}

func checkOptionalPEM(text string) error {
	if text == "" {
		return nil
	}
	return checkPEM(text)
}

func checkPEM(text string) error {
	rest := bytes.TrimSpace([]byte(text))
	for n := 0; n == 0 || len(rest) > 0; n++ {
		begins := bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----"))
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || !begins || len(block.Headers) > 0 {
			return errors.New("it is not PEM certificates and nothing else")
		}
		rest = bytes.TrimSpace(rest)
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it holds something that is not a certificate, but %.40q", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("it holds something that is not a certificate: %w", err)
		}
	}
	return nil
}

// maxEtcdNames bounds the names of a policy: a cluster has a handful of members.
const maxEtcdNames = 32

// check requires all keys or not one.
func (e *Etcd) check() error {
	if e.CA == "" && e.ServerNames == nil && e.ClusterID == "" && e.Prefix == "" {
		return nil
	}
	return first([]keyCheck{
		{"etcd_ca", checkPEM(e.CA)},
		{"etcd_server_names", checkNames(e.ServerNames)},
		{"etcd_cluster_id", checkCluster(e.ClusterID)},
		{"etcd_prefix", checkPrefix(e.Prefix)},
	})
}

func checkNames(names []string) error {
	if len(names) == 0 || len(names) > maxEtcdNames {
		return fmt.Errorf("%d names, not 1 to %d: name what the members' certificates have, DNS names or IP addresses", len(names), maxEtcdNames)
	}
	for i, name := range names {
		ip, err := netip.ParseAddr(name)
		if isIP := err == nil && ip.Zone() == "" && ip.String() == name; !isIP && !isDNSName(name) {
			return fmt.Errorf("%q is neither a DNS name nor an IP address, as the members' certificates have them", name)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%q is listed twice", name)
		}
	}
	return nil
}

func checkCluster(id string) error {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 8 || strings.ToLower(id) != id || strings.Trim(id, "0") == "" {
		return fmt.Errorf("%.40q is not the id of a cluster in 16 hex digits, which `etcdctl member list --write-out=json --hex` has, as cluster_id", id)
	}
	return nil
}

// checkPrefix requires what names of keys can begin with: a slash and 1 to 100 of A-Z
// a-z 0-9 . _ - and slashes, which are neither repeated nor at the end.
func checkPrefix(prefix string) error {
	if len(prefix) < 2 || len(prefix) > 101 || prefix[0] != '/' || strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "//") ||
		strings.Trim(prefix, letters+digits+"._-/") != "" {
		return fmt.Errorf("%.120q is not a prefix of keys, as in /privyseal", prefix)
	}
	return nil
}

// checkTable requires all keys or not one, and that no other database has the marks.
func (p *Policy) checkTable() error {
	d := &p.DynamoDB
	if *d == (DynamoDB{}) {
		return nil
	}
	err := first([]keyCheck{
		{"dynamodb_table", checkTableName(d.Table)},
		{"dynamodb_table_id", checkTableID(d.TableID)},
		{"dynamodb_region", checkRegion(d.TableRegion)},
		{"dynamodb_endpoint", p.OfTable().check()},
	})
	if err != nil {
		return err
	}
	if p.Etcd.Named() {
		return &KeyError{"dynamodb_table", errors.New("the policy names an etcd, too: a mark is in one place")}
	}
	return nil
}

func checkTableName(name string) error {
	if len(name) < 3 || len(name) > 255 || strings.Trim(name, letters+digits+"_.-") != "" {
		return fmt.Errorf("%.80q is not the name of a table: 3 to 255 of A-Z a-z 0-9 _ . -", name)
	}
	return nil
}

func checkTableID(id string) error {
	if len(id) < 1 || len(id) > 64 || strings.Trim(id, letters+digits+"-") != "" {
		return fmt.Errorf("%.80q is not a TableId, as `aws dynamodb describe-table` prints it", id)
	}
	return nil
}

func checkRegion(region string) error {
	if !awsjson.IsRegion(region) {
		return fmt.Errorf("%.80q is not a region of AWS, as in eu-central-1", region)
	}
	return nil
}
