package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Put is a call of PutKeyPolicy.
type Put struct {
	// Caller is who calls, an ARN of the key's account.
	Caller string
	// Key is the ARN of the KMS key.
	Key string
	// Exists reports whether IAM knows a role or user at this moment: one that was made
	// just now it may not know everywhere.
	Exists func(arn string) bool
	// Bypass is BypassPolicyLockoutSafetyCheck.
	Bypass bool
}

// maxKeyPolicy is the largest document of a key policy, in bytes ("Resource quotas" of
// the AWS KMS Developer Guide).
const maxKeyPolicy = 32 << 10

// kmsActions are what a statement may name: operations of the AWS KMS API Reference, and
// the permissions that are not.
var kmsActions = strings.Fields(`CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateGrant
	CreateKey Decrypt DeleteAlias DeleteCustomKeyStore DeleteImportedKeyMaterial DeriveSharedSecret
	DescribeCustomKeyStores DescribeKey DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey
	EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
	GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom GetKeyPolicy GetKeyRotationStatus GetParametersForImport
	GetPublicKey ImportKeyMaterial ListAliases ListGrants ListKeyPolicies ListKeyRotations ListKeys ListResourceTags
	ListRetirableGrants PutKeyPolicy ReEncryptFrom ReEncryptTo ReplicateKey RetireGrant RevokeGrant RotateKeyOnDemand
	ScheduleKeyDeletion Sign SynchronizeMultiRegionKey TagResource UntagResource UpdateAlias UpdateCustomKeyStore
	UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac`)

// Check says why KMS does not put a policy. What it looks at: "PutKeyPolicy" of the AWS
// KMS API Reference, "Creating a key policy" of its Developer Guide.
func (p Put) Check(policy []byte) error {
	if len(policy) > maxKeyPolicy {
		return fmt.Errorf("LimitExceededException: %d bytes", len(policy))
	}
	var document struct {
		Version, ID string
		Statement   json.RawMessage
	}
	var statements []json.RawMessage
	malformed := func(format string, args ...any) error {
		return fmt.Errorf("MalformedPolicyDocumentException: "+format, args...)
	}
	if err := json.Unmarshal(policy, &document); err != nil {
		return malformed("%w", err)
	}
	if document.Version != "2012-10-17" && document.Version != "2008-10-17" {
		return malformed("Version %q", document.Version)
	}
	if json.Unmarshal(document.Statement, &statements) != nil {
		statements = []json.RawMessage{document.Statement} // one, without a list
	}
	list, err := json.Marshal(map[string]any{"Statement": statements})
	if err != nil {
		return malformed("%w", err)
	}
	parsed, err := parsePolicy(list)
	if err != nil {
		return malformed("%w", err)
	}
	for _, s := range parsed.statements {
		if err := p.statement(s); err != nil {
			return malformed("%w", err)
		}
	}
	put := call{action: "kms:PutKeyPolicy", principal: p.Caller, key: p.Key, context: map[string][]string{"aws:principalarn": {p.Caller}}}
	if err := parsed.allows(put); err != nil && !p.Bypass {
		return malformed("The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

func (p Put) statement(s statement) error {
	switch {
	case s.Principal == nil && s.NotPrincipal == nil:
		return errors.New("a statement without Principal")
	case len(s.Action) == 0 && len(s.NotAction) == 0:
		return errors.New("a statement without Action")
	case len(s.Resource) == 0:
		return errors.New("a statement without Resource")
	}
	for _, a := range append(s.Action, s.NotAction...) {
		name, ok := strings.CutPrefix(a, "kms:")
		if a != "*" && (!ok || !slices.ContainsFunc(kmsActions, func(known string) bool { return like(name, known, true) })) {
			return fmt.Errorf("Policy contains a statement with an unsupported action %q", a)
		}
	}
	for _, principal := range []any{s.Principal, s.NotPrincipal} {
		if err := p.principals(principal); err != nil {
			return err
		}
	}
	return nil
}

var (
	account = regexp.MustCompile(`^([0-9]{12}|arn:aws[a-z-]*:iam::[0-9]{12}:root)$`)
	entity  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+$`)
)

// principals have to be: no wildcard but the one that stands for all.
func (p Put) principals(principal any) error {
	byKind, isMap := principal.(map[string]any)
	if principal == nil || principal == "*" {
		return nil
	}
	if !isMap {
		return fmt.Errorf("Principal %v", principal)
	}
	raw, err := json.Marshal(byKind["AWS"])
	var list stringList
	if err == nil && byKind["AWS"] != nil {
		err = list.UnmarshalJSON(raw)
	}
	for _, arn := range list {
		if arn == "*" || account.MatchString(arn) || entity.MatchString(arn) && p.Exists(arn) {
			continue
		}
		return fmt.Errorf("Policy contains a statement with one or more invalid principals: %s", arn)
	}
	return err
}
