package awspolicy

// Kind says how bad a finding is.
type Kind int

// The kinds, from harmless to bad.
const (
	Enclave Kind = iota // somebody may use the key in an expected image, as it should be
	Signer              // the same in any image that the owner of an expected certificate signs
	Destroy             // somebody may end the KMS key, or make it useless, and with it all that is wrapped
	Rewrite             // somebody may replace the policy, and so all that it says
	Unclear             // something was not understood, and may let anybody do anything
	Bypass              // somebody gets around the enclave
)

// Finding is one thing about a policy.
type Finding struct {
	Kind      Kind
	Statement string   // which one, for people
	Who       string   // principal, for people; empty if Unclear
	Actions   []string // what the principal may do
	Text      string   // what follows from it

	who        principal
	conditions []condition // what else the statement asks for
	pcr3       []string    // of which roles the instance has to be, if it is said
	instance   bool        // PCR3 or PCR4 says on whose instance the enclave has to run
}

// power is an action by which somebody could get around the enclave.
type power struct {
	action string
	// attested actions take an attestation document, and a condition on it.
	// Without, a condition that requires one is never met.
	attested bool
	kind     Kind // of who has it: Bypass, Rewrite or Destroy
	means    string
}

func powers() []power {
	const (
		opens  = "opens wrapped keys"
		forges = "wraps a key that it knows, and passes it off as made in the enclave"
		ends   = "deletes or disables the KMS key, and so every key that is wrapped under it"
	)
	return []power{
		{"kms:Decrypt", true, Bypass, opens},
		{"kms:ReEncryptFrom", false, Bypass, "moves wrapped keys under a KMS key of its own"},
		{"kms:CreateGrant", false, Bypass, "gives these rights to others"},
		{"kms:ReplicateKey", false, Bypass, "makes a replica of the KMS key with another policy"},
		{"kms:GenerateDataKey", true, Bypass, forges},
		{"kms:Encrypt", false, Bypass, forges},
		{"kms:ReEncryptTo", false, Bypass, forges},
		{"kms:ImportKeyMaterial", false, Bypass, "gives the KMS key a secret that it knows"},
		{"kms:PutKeyPolicy", false, Rewrite, "replaces this policy"},
		{"kms:ScheduleKeyDeletion", false, Destroy, ends},
		{"kms:DeleteImportedKeyMaterial", false, Destroy, ends},
		{"kms:DisableKey", false, Destroy, ends},
		{"kms:RevokeGrant", false, Destroy, ends},
		{"kms:UpdatePrimaryRegion", false, Destroy, ends},
	}
}
