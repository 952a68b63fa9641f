// Package provision sets a YubiHSM 2 up from 24 words, as `tmkms yubihsm setup` does: a
// device that one of the two has set up works with the other. It makes authentication keys
// for four roles, wrap key 1, and a report.
//
// Whatever interrupts it, the same words finish it: each step looks at what is there first,
// and nothing that is there is overwritten or deleted but the factory's authentication key,
// and the temporary one of an interrupted set-up. The factory's key, whose password everybody
// knows, goes last: until then a device that is cut off can be set up, and after it the words
// open the device.
//
// It trusts the device that knows the words, or the factory's password on a device that the
// operator has in hand. It neither shows nor stores a secret.
package provision

import (
	"time"

	"privyseal/yubihsm"
)

// Object ids of a device that is set up. As tmkms does, it has its authentication keys
// from 1 on, one wrap key, and, with the highest id, a report, or an authentication key
// while the device is being set up.
const (
	Admin     = 1
	Operator  = 2
	Auditor   = 3
	Validator = 4

	wrapKey   = 1
	temporary = 0xfffe
	report    = 0xfffe
)

// everything are all capabilities, those of firmware to come included. A device may report
// fewer of them than it was given, see covers.
const everything = ^yubihsm.Capabilities(0)

// known are the capabilities that devices of every firmware have.
const known = yubihsm.DeleteOTPAEADKey<<1 - 1

// covers reports whether a device that says have was given want.
func covers(have, want yubihsm.Capabilities) bool {
	if want == everything {
		return have.Has(known)
	}
	return have == want
}

// item is an object that a device has when it is set up.
type item struct {
	yubihsm.Object
	kind yubihsm.ObjectType
	role string // what the label begins with, and what the password is derived by
}

// roles are the authentication keys but the administrator's.
var roles = []item{
	role(Operator, "operator", yubihsm.GenerateAsymmetricKey|yubihsm.PutAsymmetricKey|yubihsm.GenerateHMACKey|yubihsm.PutMACKey|
		yubihsm.ImportWrapped|yubihsm.ExportWrapped|yubihsm.GetOpaque|yubihsm.GetOption|yubihsm.GetLogEntries|
		yubihsm.SignAttestationCertificate, everything, yubihsm.AllDomains),
	role(Auditor, "auditor", yubihsm.GetLogEntries|yubihsm.GetOption|yubihsm.SetOption|yubihsm.GetOpaque, 0, yubihsm.AllDomains),
	role(Validator, "validator", yubihsm.SignECDSA|yubihsm.SignEdDSA|yubihsm.SignAttestationCertificate|yubihsm.GetLogEntries, 0, yubihsm.Domain(1)),
}

var (
	adminRole     = role(Admin, "admin", everything, everything, yubihsm.AllDomains)
	temporaryRole = role(temporary, "privyseal: temporary key of the set-up", everything, everything, yubihsm.AllDomains)
	primary       = item{kind: yubihsm.TypeWrapKey, role: "primary", Object: yubihsm.Object{ID: wrapKey, Domains: yubihsm.AllDomains, Algorithm: yubihsm.AES256CCMWrap,
		Capabilities: yubihsm.ExportWrapped | yubihsm.ImportWrapped | yubihsm.WrapData | yubihsm.UnwrapData, Delegated: everything}}
	reportItem = item{kind: yubihsm.TypeOpaque, role: "yubihsm.rs setup report", Object: yubihsm.Object{ID: report, Domains: yubihsm.AllDomains,
		Algorithm: yubihsm.OpaqueData, Capabilities: yubihsm.GetOpaque}}
)

func role(id uint16, name string, can, delegated yubihsm.Capabilities, domains yubihsm.Domains) item {
	return item{kind: yubihsm.TypeAuthenticationKey, role: name, Object: yubihsm.Object{ID: id, Domains: domains,
		Algorithm: yubihsm.AES128YubicoAuthentication, Capabilities: can, Delegated: delegated}}
}

// all are the objects of a device that is set up, in the order in which they are made.
func all() []item { return append(append([]item{adminRole}, roles...), primary, reportItem) }

// named returns the object as it is made at a time, which the label has.
func (i item) named(at time.Time) yubihsm.Object {
	o := i.Object
	o.Label = i.role
	if i.kind != yubihsm.TypeOpaque && i.ID != temporary {
		o.Label += ":" + at.UTC().Format("2006-01-02T15:04:05Z")
	}
	return o
}

// is reports whether an object of a device is this one, as far as anybody can see.
func (i item) is(o yubihsm.ObjectInfo) bool {
	return o.Type == i.kind && o.ID == i.ID && o.Algorithm == i.Algorithm && o.Domains == i.Domains &&
		covers(o.Capabilities, i.Capabilities) && covers(o.Delegated, i.Delegated)
}

// isTemporary reports whether an authentication key is one that a set-up leaves where it is
// interrupted, ours or that of tmkms.
func isTemporary(o yubihsm.ObjectInfo) bool {
	return o.ID == temporary && (o.Label == temporaryRole.role || o.Label == "yubihsm.rs temporary setup key")
}
