package yubihsmtest

import "fmt"

// Commands of the device.
const (
	Echo                 = 0x01
	CreateSession        = 0x03
	AuthenticateSession  = 0x04
	SessionMessage       = 0x05
	GetDeviceInfo        = 0x06
	ResetDevice          = 0x08
	CloseSession         = 0x40
	GetStorageInfo       = 0x41
	PutOpaque            = 0x42
	GetOpaque            = 0x43
	PutAuthenticationKey = 0x44
	PutAsymmetricKey     = 0x45
	GenerateAsymmetric   = 0x46
	ListObjects          = 0x48
	ExportWrapped        = 0x4a
	ImportWrapped        = 0x4b
	PutWrapKey           = 0x4c
	GetLogEntries        = 0x4d
	GetObjectInfo        = 0x4e
	SetOption            = 0x4f
	GetOption            = 0x50
	GetPseudoRandom      = 0x51
	PutHMACKey           = 0x52
	SignHMAC             = 0x53
	GetPublicKey         = 0x54
	SignECDSA            = 0x56
	DeleteObject         = 0x58
	GenerateHMACKey      = 0x5a
	GenerateWrapKey      = 0x5b
	VerifyHMAC           = 0x5c
	SignAttestation      = 0x64
	SetLogIndex          = 0x67
	WrapData             = 0x68
	UnwrapData           = 0x69
	SignEdDSA            = 0x6a
	BlinkDevice          = 0x6b
	ChangeAuthKey        = 0x6c

	// Any stands for every command where a fault is set.
	Any = 0x00

	reply      = 0x80 // the flag of an answer's command
	errorReply = 0x7f
)

// Code is what the device answers in place of a result.
type Code byte

// The device's error codes.
const (
	InvalidCommand          Code = 0x01
	InvalidData             Code = 0x02
	InvalidSession          Code = 0x03
	AuthenticationFailed    Code = 0x04
	SessionsFull            Code = 0x05
	SessionFailed           Code = 0x06
	StorageFailed           Code = 0x07
	WrongLength             Code = 0x08
	InsufficientPermissions Code = 0x09
	LogFull                 Code = 0x0a
	ObjectNotFound          Code = 0x0b
	InvalidID               Code = 0x0c
	ObjectExists            Code = 0x11
	AlgorithmDisabled       Code = 0x12
)

// Error returns the code in hexadecimal.
func (c Code) Error() string { return fmt.Sprintf("the device's error %02x", byte(c)) }

// Type is the kind of an object.
type Type byte

// Kinds of objects.
const (
	Opaque            Type = 1
	AuthenticationKey Type = 2
	AsymmetricKey     Type = 3
	WrapKey           Type = 4
	HMACKey           Type = 5
)

// hasDelegated reports whether objects of the type have delegated capabilities.
func (t Type) hasDelegated() bool { return t == AuthenticationKey || t == WrapKey }

// Algorithms of objects.
const (
	P256            = 12
	P384            = 13
	P521            = 14
	K256            = 15
	HMACSHA1        = 19
	HMACSHA256      = 20
	HMACSHA384      = 21
	HMACSHA512      = 22
	AES128CCM       = 29
	OpaqueData      = 30
	OpaqueX509      = 31
	AES128Auth      = 38
	AES192CCM       = 41
	AES256CCM       = 42
	Ed25519         = 46
	P224            = 47
	firstUnknown    = 56 // newer devices have some that no document names
	lastUnknown     = 58
	lastKnown       = 55
	lastBefore2_3_0 = 48
)

// Capabilities is a set of capabilities, a bit each.
type Capabilities uint64

// The capabilities that the simulator knows.
const (
	CanGetOpaque            Capabilities = 1 << 0x00
	CanPutOpaque            Capabilities = 1 << 0x01
	CanPutAuthenticationKey Capabilities = 1 << 0x02
	CanPutAsymmetric        Capabilities = 1 << 0x03
	CanGenerateAsymmetric   Capabilities = 1 << 0x04
	CanSignECDSA            Capabilities = 1 << 0x07
	CanSignEdDSA            Capabilities = 1 << 0x08
	CanExportWrapped        Capabilities = 1 << 0x0c
	CanImportWrapped        Capabilities = 1 << 0x0d
	CanPutWrapKey           Capabilities = 1 << 0x0e
	CanGenerateWrapKey      Capabilities = 1 << 0x0f
	ExportableUnderWrap     Capabilities = 1 << 0x10
	CanSetOption            Capabilities = 1 << 0x11
	CanGetOption            Capabilities = 1 << 0x12
	CanGetRandom            Capabilities = 1 << 0x13
	CanPutHMAC              Capabilities = 1 << 0x14
	CanGenerateHMAC         Capabilities = 1 << 0x15
	CanSignHMAC             Capabilities = 1 << 0x16
	CanVerifyHMAC           Capabilities = 1 << 0x17
	CanGetLog               Capabilities = 1 << 0x18
	CanReset                Capabilities = 1 << 0x1c
	CanAttest               Capabilities = 1 << 0x22
	CanWrapData             Capabilities = 1 << 0x25
	CanUnwrapData           Capabilities = 1 << 0x26
	CanDeleteOpaque         Capabilities = 1 << 0x27
	CanDeleteAuthentication Capabilities = 1 << 0x28
	CanDeleteAsymmetric     Capabilities = 1 << 0x29
	CanDeleteWrapKey        Capabilities = 1 << 0x2a
	CanDeleteHMAC           Capabilities = 1 << 0x2b
	CanChangeAuthKey        Capabilities = 1 << 0x2e

	All Capabilities = 1<<64 - 1 // those of the factory's key, with the bits that mean nothing yet
)

// has reports whether all of want are in the set.
func (c Capabilities) has(want Capabilities) bool { return c&want == want }

// Options of the device.
const (
	forceAudit      = 1
	commandAudit    = 3
	algorithmToggle = 4
)

// Values of the audit options.
const (
	auditOff   = 0
	auditOn    = 1
	auditFixed = 2
)

// commands are all that a device has, in the order in which it lists them.
var commands = []byte{
	0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x09, 0x08, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x55, 0x56, 0x48, 0x49, 0x57, 0x4a, 0x4b, 0x4c, 0x4d, 0x67, 0x4e, 0x4f, 0x50, 0x51, 0x52, 0x53,
	0x54, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x0a, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77,
}

// unaudited are the commands that an old device does not log unless set to.
var unaudited = []byte{Echo, SessionMessage, GetDeviceInfo, 0x07, 0x09, GetLogEntries}
