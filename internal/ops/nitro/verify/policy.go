package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
)

// permits says what a measured policy lets an enclave do, in the names that its file
// has. A document with a PCR2 says the same, to those who have that file.
func permits(p *policy.Policy) []string {
	list := []string{
		"kms_key: " + p.KMSKey + ", at " + p.KMSEndpoint + " with the name " + p.KMSServerName,
		"chains: " + listOr(p.Chains, "any that a wrapped key names"),
		"public_keys: " + listOr(p.PublicKeys, "any that a wrapped key names"),
	}
	if p.Etcd.Named() {
		list = append(list, "etcd: the marks of all chains are in the cluster "+p.Etcd.ClusterID+", below "+p.Etcd.Prefix+", whose members have the name "+strings.Join(p.Etcd.ServerNames, " or ")+
			" in a certificate of the measured CA; nothing is signed with records of the host")
	}
	if d := p.DynamoDB; d.Named() {
		list = append(list, "dynamodb: the marks of all chains are in the table "+d.Table+" of "+d.TableRegion+" with the TableId "+d.TableID+", at "+d.TableEndpoint+
			"; nothing is signed with records of the host, and whoever has the rights of its role can write to that table")
	}
	if p.MaxHeight > 0 {
		list = append(list, fmt.Sprintf("max_height: nothing is signed above %d", p.MaxHeight))
	}
	for _, id := range slices.Sorted(maps.Keys(p.StateFloor)) {
		list = append(list, fmt.Sprintf("state_floor of %s: nothing is signed at or below %d; a lost state may be made again above it, by the host alone, so that what was signed above it can be signed a second time", id, p.StateFloor[id]))
	}
	if p.AllowSignBytes {
		list = append(list, "allow_sign_bytes: a node may have bytes of its own choice signed (CometBFT v1, v2), unless they parse as a vote, a proposal or an extension")
	}
	if p.AllowRawBytes {
		list = append(list, "allow_raw_bytes: a node may have bytes of its own choice signed (Celestia), unless they parse as a vote, a proposal or an extension")
	}
	if p.AttestationRoot != "" {
		list = append(list, "attestation_root: documents of a root that is not AWS's")
	}
	return list
}

func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// anyProgram says why the expected image may run a program that is not ours; "" if
// kernel and program were named as those of a release.
func (v *Verified) anyProgram() string {
	const compare = "compare PCR1 with the release's"
	switch {
	case v.foreign:
		return "that the image runs a program of ours: `privyseal nitro build` does not lay an image out like this one, and PCR1 does not say what else is in it"
	case !v.named || v.release || v.Statement.foreign:
		return ""
	case v.program != "" && v.program != image.EnclaveProgram:
		return fmt.Sprintf("that the image runs a program of ours: its program calls itself %.80q; %s", v.program, compare)
	}
	return "that the image runs the program of a release: " + compare
}
