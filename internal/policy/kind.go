package policy

// Kind is which enclaves a policy is for.
type Kind string

const (
	Nitro Kind = "AWS Nitro Enclaves"
	OfSGX Kind = "Intel SGX"
)

// The keys of a CPU that secrets are sealed under, each as good as what Intel's manual says
// of the one that it is derived from.
const (
	// SealMRENCLAVE opens for this program with this policy, and for no other build.
	SealMRENCLAVE = "mrenclave"
	// SealMRSIGNER opens for whatever the same key has signed with the same product id, and
	// so for whoever has that key.
	SealMRSIGNER = "mrsigner"
)

// Kind returns which enclaves the policy is for.
func (p *Policy) Kind() Kind {
	if p.SGX != (SGX{}) {
		return OfSGX
	}
	return Nitro
}
