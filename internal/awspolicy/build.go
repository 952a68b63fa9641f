// Package awspolicy writes and judges the policy of the AWS KMS key under which
// an enclave's keys are wrapped.
//
// The key policy is the lock on that key: who may have a wrapped key opened, and
// in which image. It is AWS's to enforce, and whoever may replace it holds the
// lock; nothing here can change that, only say who it is. The package is pure:
// it asks AWS nothing, and sees neither grants nor IAM policies.
//
// Elements, operators and how they are evaluated: AWS's IAM User Guide, "IAM
// JSON policy element reference" and "Policy evaluation logic"; actions and the
// keys kms:RecipientAttestation:…: AWS KMS Developer Guide.
package awspolicy

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"privyseal/internal/nitro"
)

// Image are the measurements of one enclave image, 48 bytes each. In debug mode
// PCR0, PCR1 and PCR2 are zero; a document of AWS shows that PCR4 is not, and
// nothing says so of PCR8.
type Image struct {
	PCR0, PCR1, PCR2 []byte
	PCR8             []byte // nil or zero of an image that is not signed
}

// KeyPolicy is what a key policy is made of.
type KeyPolicy struct {
	// Role is the ARN of the IAM role of the instance. Required; its hash is PCR3.
	Role string
	// Admins are the ARNs of those who may change and delete the key, this policy
	// included. None: whoever the role's account lets.
	Admins []string
	// Images are the ones that may have keys made and opened. At least one.
	Images []Image
	// Parts asks for PCR1 and PCR2 beside PCR0, Signed for PCR8.
	Parts, Signed bool
	// WithoutPCR0 leaves PCR0 out: Parts or Signed alone say which image. With
	// Parts those are the same images; with Signed alone, all that the owner of the
	// signing key ever signs.
	WithoutPCR0 bool
	// Instance is the id (i-…) of the only instance that may; empty is any. Its
	// hash is PCR4.
	Instance string
	// Context are encryption context keys that have to be there, with the values
	// that they may have, and Optional those that may also be absent. None: any.
	Context, Optional map[string][]string
}

// document and statement have the order in which a person reads them.
type document struct {
	Version   string
	Id        string
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Principal principalField
	Action    list
	Resource  string
	Condition map[string]map[string]list `json:",omitempty"`
}

// principalField is "*", or ARNs.
type principalField []string

// MarshalJSON writes one of the forms that IAM reads.
func (p principalField) MarshalJSON() ([]byte, error) {
	if len(p) == 0 {
		return []byte(`"*"`), nil
	}
	return json.Marshal(map[string]list{"AWS": list(p)})
}

// list is a list that is written without brackets if it has one element.
type list []string

// MarshalJSON writes one of the forms that IAM reads.
func (l list) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

// adminActions manage a key without using it. None of them is in powers but
// PutKeyPolicy, without which a policy could never be mended.
var adminActions = list{
	"kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListAliases", "kms:ListGrants",
	"kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags",
	"kms:PutKeyPolicy", "kms:RevokeGrant", "kms:UpdateKeyDescription", "kms:TagResource", "kms:UntagResource",
	"kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias",
	"kms:EnableKeyRotation", "kms:DisableKeyRotation", "kms:RotateKeyOnDemand",
	"kms:EnableKey", "kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion",
}

// JSON returns the policy as `aws kms create-key --policy` takes it.
func (p KeyPolicy) JSON() ([]byte, error) {
	account, err := p.check()
	if err != nil {
		return nil, fmt.Errorf("cannot make a key policy: %w", err)
	}
	admins := p.Admins
	if len(admins) == 0 {
		admins = []string{account}
	}
	doc := document{Version: "2012-10-17", Id: "privyseal", Statement: slices.Concat([]statement{{
		Sid: "ManageTheKeyWithoutUsingIt", Effect: "Allow", Principal: admins, Resource: "*",
		Action: adminActions,
	}}, p.allows(), p.denials(), []statement{{
		Sid: "NoWayAround", Effect: "Deny", Resource: "*",
		Action: list{"kms:ReEncrypt*", "kms:CreateGrant", "kms:Encrypt", "kms:ReplicateKey", "kms:ImportKeyMaterial"},
	}})}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err = e.Encode(doc); err == nil && b.Len() > awsMaxPolicy {
		err = fmt.Errorf("cannot make a key policy: with %d images it has %d bytes, and AWS accepts at most %d", len(p.Images), b.Len(), awsMaxPolicy)
	}
	return b.Bytes(), err
}

// awsMaxPolicy bounds a key policy in bytes: AWS KMS Developer Guide, "Resource quotas".
const awsMaxPolicy = 32 << 10

// allows returns the statements that let the role's enclave use the key. Several
// images that are named by their parts need one statement each: lists would admit
// the program of one with the policy of another.
func (p KeyPolicy) allows() (l []statement) {
	groups := [][]Image{p.Images}
	if p.WithoutPCR0 && p.Parts {
		groups = groups[:0]
		for i, im := range p.Images {
			if !slices.ContainsFunc(p.Images[:i], func(o Image) bool { return bytes.Equal(o.PCR0, im.PCR0) && bytes.Equal(o.PCR8, im.PCR8) }) {
				groups = append(groups, []Image{im})
			}
		}
	}
	for i, images := range groups {
		sid := "UseItInTheEnclave"
		if i > 0 {
			sid += strconv.Itoa(i + 1)
		}
		l = append(l, statement{
			Sid: sid, Effect: "Allow", Principal: principalField{p.Role}, Resource: "*",
			Action:    list{"kms:Decrypt", "kms:GenerateDataKey"},
			Condition: p.conditions(images),
		})
	}
	return l
}

// denials returns the statements that shut out whoever attests nothing, or another
// image. A key that is absent from a request, as it is without attestation, is not
// equal to any value. Several keys in one statement would all have to differ, so
// each has its own.
func (p KeyPolicy) denials() (l []statement) {
	deny := func(sid, operator, register string, values list) {
		l = append(l, statement{
			Sid: sid, Effect: "Deny", Resource: "*",
			Action:    list{"kms:Decrypt", "kms:GenerateDataKey*", "kms:DeriveSharedSecret"},
			Condition: map[string]map[string]list{operator: {attestation + register: values}},
		})
	}
	if !p.WithoutPCR0 {
		deny("NothingWithoutAttestation", "StringNotEqualsIgnoreCase", "PCR0", values(p.Images, pcr0))
		return l
	}
	if p.Parts {
		deny("NothingWithoutAttestation", "StringNotEqualsIgnoreCase", "PCR1", values(p.Images, pcr1))
		deny("NothingWithAnotherPolicy", "StringNotEqualsIgnoreCase", "PCR2", values(p.Images, pcr2))
		return l
	}
	deny("NothingWithoutAttestation", "StringNotEqualsIgnoreCase", "PCR8", values(p.Images, pcr8))
	deny("NothingInDebugMode", "StringEquals", "PCR0", list{zeros})
	return l
}

// zeros is PCR0 in debug mode.
var zeros = strings.Repeat("0", 2*sha512.Size384)

func pcr0(i Image) []byte { return i.PCR0 }
func pcr1(i Image) []byte { return i.PCR1 }
func pcr2(i Image) []byte { return i.PCR2 }
func pcr8(i Image) []byte { return i.PCR8 }

// conditions returns what a request of the role's enclave has to meet, in one of
// the images.
func (p KeyPolicy) conditions(images []Image) map[string]map[string]list {
	pcrs := map[string]list{attestation + "PCR3": {parentPCR(p.Role)}}
	if !p.WithoutPCR0 {
		pcrs[attestation+"PCR0"] = values(images, pcr0)
	}
	if p.Parts {
		pcrs[attestation+"PCR1"] = values(images, pcr1)
		pcrs[attestation+"PCR2"] = values(images, pcr2)
	}
	if p.Signed {
		pcrs[attestation+"PCR8"] = values(images, pcr8)
	}
	if p.Instance != "" {
		pcrs[attestation+"PCR4"] = list{parentPCR(p.Instance)}
	}
	c := map[string]map[string]list{"StringEqualsIgnoreCase": pcrs}
	for operator, pinned := range map[string]map[string][]string{"StringEquals": p.Context, "StringEqualsIfExists": p.Optional} {
		for key, allowed := range pinned {
			if c[operator] == nil {
				c[operator] = map[string]list{}
			}
			c[operator]["kms:EncryptionContext:"+key] = allowed
		}
	}
	return c
}

// parentPCR returns PCR3 of a role's ARN, and PCR4 of an instance's id, in hex.
func parentPCR(text string) string {
	pcr := nitro.ParentPCR(text)
	return hex.EncodeToString(pcr[:])
}

// values returns one register of all images in hex, each value once.
func values(images []Image, register func(Image) []byte) (l list) {
	seen := map[string]bool{}
	for _, i := range images {
		if v := hex.EncodeToString(register(i)); !seen[v] {
			seen[v] = true
			l = append(l, v)
		}
	}
	return l
}

// check returns the ARN of the account of the role.
func (p KeyPolicy) check() (account string, err error) {
	if err := CheckRole(p.Role); err != nil {
		return "", err
	}
	parts := strings.SplitN(p.Role, ":", 6)
	for _, a := range p.Admins {
		admin := principal{"AWS", accountOf(a)}
		id := admin.accountID()
		switch {
		case !strings.HasPrefix(a, "arn:") || strings.ContainsAny(a, "*?") || !isPlain(a) || id == "":
			return "", fmt.Errorf("%q is not the ARN of an administrator, as in arn:aws:iam::ACCOUNT:user/NAME", a)
		case admin.role() == (principal{"AWS", p.Role}).role():
			return "", errors.New("the role of the instance must not manage the key: it could replace this policy")
		case id != (principal{"AWS", accountOf(p.Admins[0])}).accountID():
			return "", fmt.Errorf("%q belongs to another account than %q: only the key's own account can manage it", a, p.Admins[0])
		}
	}
	if len(p.Images) == 0 {
		return "", errors.New("no image is allowed")
	}
	if p.WithoutPCR0 && !p.Parts && !p.Signed {
		return "", errors.New("without PCR0, either PCR1 and PCR2 or PCR8 must name the image")
	}
	for _, i := range p.Images {
		if len(i.PCR0) != 48 || len(i.PCR1) != 48 || len(i.PCR2) != 48 {
			return "", errors.New("an image has a measurement that is not 48 bytes long")
		}
		if p.WithoutPCR0 && len(bytes.Trim(i.PCR0, "\x00")) == 0 {
			return "", errors.New("in debug mode all measurements are zero, and PCR0 cannot be left out")
		}
		if p.Signed && len(bytes.Trim(i.PCR8, "\x00")) == 0 {
			return "", errors.New("PCR8 was asked for, but an image is not signed")
		}
	}
	if p.Instance != "" {
		if err := CheckInstance(p.Instance); err != nil {
			return "", err
		}
	}
	return strings.Join(append(parts[:5], "root"), ":"), nil
}

// CheckRole says why a text is not the ARN of an IAM role: what PCR3 is the hash of.
func CheckRole(arn string) error {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[2] != "iam" || parts[3] != "" ||
		!isAccount(parts[4]) || !strings.HasPrefix(parts[5], "role/") || strings.HasSuffix(parts[5], "/") || strings.ContainsAny(arn, "*?") || !isPlain(arn) {
		return fmt.Errorf("%q is not the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME", arn)
	}
	return nil
}

// CheckInstance says why a text is not the id of an instance: what PCR4 is the hash of.
func CheckInstance(id string) error {
	digits, found := strings.CutPrefix(id, "i-")
	if !found || len(digits) != 8 && len(digits) != 17 || strings.Trim(digits, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is not an instance id, i- and 8 or 17 hex digits", id)
	}
	return nil
}
