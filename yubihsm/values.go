package yubihsm

import (
	"fmt"
	"strconv"
	"strings"
)

// Command is the first byte of a message.
type Command byte

// Commands of the guide. A session can send those that have no method, too: [Session.Send].
const (
	CommandEcho                       Command = 0x01
	CommandCreateSession              Command = 0x03
	CommandAuthenticateSession        Command = 0x04
	CommandSessionMessage             Command = 0x05
	CommandGetDeviceInfo              Command = 0x06
	CommandResetDevice                Command = 0x08
	CommandCloseSession               Command = 0x40
	CommandGetStorageInfo             Command = 0x41
	CommandPutOpaque                  Command = 0x42
	CommandGetOpaque                  Command = 0x43
	CommandPutAuthenticationKey       Command = 0x44
	CommandPutAsymmetricKey           Command = 0x45
	CommandGenerateAsymmetricKey      Command = 0x46
	CommandListObjects                Command = 0x48
	CommandExportWrapped              Command = 0x4a
	CommandImportWrapped              Command = 0x4b
	CommandPutWrapKey                 Command = 0x4c
	CommandGetLogEntries              Command = 0x4d
	CommandGetObjectInfo              Command = 0x4e
	CommandSetOption                  Command = 0x4f
	CommandGetOption                  Command = 0x50
	CommandGetPseudoRandom            Command = 0x51
	CommandGetPublicKey               Command = 0x54
	CommandSignECDSA                  Command = 0x56
	CommandDeleteObject               Command = 0x58
	CommandGenerateWrapKey            Command = 0x5b
	CommandSignAttestationCertificate Command = 0x64
	CommandSetLogIndex                Command = 0x67
	CommandWrapData                   Command = 0x68
	CommandUnwrapData                 Command = 0x69
	CommandSignEdDSA                  Command = 0x6a
	CommandBlinkDevice                Command = 0x6b
	CommandChangeAuthenticationKey    Command = 0x6c
)

// answerFlag is set in the first byte of an answer; an answer that is an error has
// errorAnswer.
const (
	answerFlag          = 0x80
	errorAnswer Command = 0x7f
)

var commandNames = map[Command]string{
	CommandEcho: "echo", CommandCreateSession: "create session", CommandAuthenticateSession: "authenticate session",
	CommandSessionMessage: "session message", CommandGetDeviceInfo: "get device info", CommandResetDevice: "reset device",
	CommandCloseSession: "close session", CommandGetStorageInfo: "get storage info", CommandPutOpaque: "put opaque",
	CommandGetOpaque: "get opaque", CommandPutAuthenticationKey: "put authentication key",
	CommandPutAsymmetricKey: "put asymmetric key", CommandGenerateAsymmetricKey: "generate asymmetric key",
	CommandListObjects: "list objects", CommandExportWrapped: "export wrapped", CommandImportWrapped: "import wrapped",
	CommandPutWrapKey: "put wrap key", CommandGetLogEntries: "get log entries", CommandGetObjectInfo: "get object info",
	CommandSetOption: "set option", CommandGetOption: "get option", CommandGetPseudoRandom: "get pseudo random",
	CommandGetPublicKey: "get public key", CommandSignECDSA: "sign ecdsa", CommandDeleteObject: "delete object",
	CommandGenerateWrapKey: "generate wrap key", CommandSignAttestationCertificate: "sign attestation certificate",
	CommandSetLogIndex: "set log index", CommandWrapData: "wrap data", CommandUnwrapData: "unwrap data", CommandSignEdDSA: "sign eddsa", CommandBlinkDevice: "blink device",
	CommandChangeAuthenticationKey: "change authentication key",
}

// String returns the command's name, or its number in hexadecimal.
func (c Command) String() string {
	if name, ok := commandNames[c]; ok {
		return name
	}
	return fmt.Sprintf("command 0x%02x", byte(c))
}

// ObjectType says what an object is. An object is named by its type and its id together.
type ObjectType byte

// Types of objects.
const (
	TypeOpaque            ObjectType = 0x01
	TypeAuthenticationKey ObjectType = 0x02
	TypeAsymmetricKey     ObjectType = 0x03
	TypeWrapKey           ObjectType = 0x04
	TypeHMACKey           ObjectType = 0x05
	TypeTemplate          ObjectType = 0x06
	TypeOTPAEADKey        ObjectType = 0x07
	TypeSymmetricKey      ObjectType = 0x08
	TypePublicWrapKey     ObjectType = 0x09
)

var objectTypeNames = map[ObjectType]string{
	TypeOpaque: "opaque", TypeAuthenticationKey: "authentication-key", TypeAsymmetricKey: "asymmetric-key", TypeWrapKey: "wrap-key",
	TypeHMACKey: "hmac-key", TypeTemplate: "template", TypeOTPAEADKey: "otp-aead-key", TypeSymmetricKey: "symmetric-key",
	TypePublicWrapKey: "public-wrap-key",
}

// String returns the name that yubihsm-shell has for the type, or its number.
func (t ObjectType) String() string {
	if name, ok := objectTypeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("type 0x%02x", byte(t))
}

// Algorithm is what an object is used with. A value without a name here is no error:
// devices report algorithms that no document has.
type Algorithm byte

// Algorithms that the methods of this package handle.
const (
	RSA2048                    Algorithm = 9
	RSA3072                    Algorithm = 10
	RSA4096                    Algorithm = 11
	P256                       Algorithm = 12
	P384                       Algorithm = 13
	P521                       Algorithm = 14
	K256                       Algorithm = 15 // secp256k1
	BP256                      Algorithm = 16
	BP384                      Algorithm = 17
	BP512                      Algorithm = 18
	AES128CCMWrap              Algorithm = 29
	OpaqueData                 Algorithm = 30
	OpaqueX509Certificate      Algorithm = 31
	AES128YubicoAuthentication Algorithm = 38
	AES192CCMWrap              Algorithm = 41
	AES256CCMWrap              Algorithm = 42
	Ed25519                    Algorithm = 46
	P224                       Algorithm = 47
)

var algorithmNames = map[Algorithm]string{
	RSA2048: "rsa2048", RSA3072: "rsa3072", RSA4096: "rsa4096", P256: "ecp256", P384: "ecp384", P521: "ecp521",
	K256: "eck256", BP256: "ecbp256", BP384: "ecbp384", BP512: "ecbp512", AES128CCMWrap: "aes128-ccm-wrap",
	OpaqueData: "opaque-data", OpaqueX509Certificate: "opaque-x509-certificate",
	AES128YubicoAuthentication: "aes128-yubico-authentication", AES192CCMWrap: "aes192-ccm-wrap",
	AES256CCMWrap: "aes256-ccm-wrap", Ed25519: "ed25519", P224: "ecp224",
}

// String returns the name that yubihsm-shell has for the algorithm, or its number.
func (a Algorithm) String() string {
	if name, ok := algorithmNames[a]; ok {
		return name
	}
	return "algorithm " + strconv.Itoa(int(a))
}

// Domains is a set of the 16 domains of a device: bit 0 is domain 1. An authentication key
// sees and uses only objects with which it shares a domain.
type Domains uint16

// AllDomains is the set of all 16.
const AllDomains Domains = 0xffff

// Domain returns the set of one domain, 1 to 16. Any other number is the empty set, which
// no device accepts for an object.
func Domain(number int) Domains {
	if number < 1 || number > 16 {
		return 0
	}
	return 1 << (number - 1)
}

// String returns the numbers of the domains, as in "1,5,16".
func (d Domains) String() string {
	var numbers []string
	for i := range 16 {
		if d&(1<<i) != 0 {
			numbers = append(numbers, strconv.Itoa(i+1))
		}
	}
	return strings.Join(numbers, ",")
}

// Capabilities is a set of what an object may do, or what may be done with it: bit N is
// the capability that the guide numbers N.
type Capabilities uint64

// Capabilities of the guide.
const (
	GetOpaque                  Capabilities = 1 << 0x00
	PutOpaque                  Capabilities = 1 << 0x01
	PutAuthenticationKey       Capabilities = 1 << 0x02
	PutAsymmetricKey           Capabilities = 1 << 0x03
	GenerateAsymmetricKey      Capabilities = 1 << 0x04
	SignPKCS                   Capabilities = 1 << 0x05
	SignPSS                    Capabilities = 1 << 0x06
	SignECDSA                  Capabilities = 1 << 0x07
	SignEdDSA                  Capabilities = 1 << 0x08
	DecryptPKCS                Capabilities = 1 << 0x09
	DecryptOAEP                Capabilities = 1 << 0x0a
	DeriveECDH                 Capabilities = 1 << 0x0b
	ExportWrapped              Capabilities = 1 << 0x0c
	ImportWrapped              Capabilities = 1 << 0x0d
	PutWrapKey                 Capabilities = 1 << 0x0e
	GenerateWrapKey            Capabilities = 1 << 0x0f
	ExportableUnderWrap        Capabilities = 1 << 0x10
	SetOption                  Capabilities = 1 << 0x11
	GetOption                  Capabilities = 1 << 0x12
	GetPseudoRandom            Capabilities = 1 << 0x13
	PutMACKey                  Capabilities = 1 << 0x14
	GenerateHMACKey            Capabilities = 1 << 0x15
	SignHMAC                   Capabilities = 1 << 0x16
	VerifyHMAC                 Capabilities = 1 << 0x17
	GetLogEntries              Capabilities = 1 << 0x18
	SignSSHCertificate         Capabilities = 1 << 0x19
	GetTemplate                Capabilities = 1 << 0x1a
	PutTemplate                Capabilities = 1 << 0x1b
	ResetDevice                Capabilities = 1 << 0x1c
	DecryptOTP                 Capabilities = 1 << 0x1d
	CreateOTPAEAD              Capabilities = 1 << 0x1e
	RandomizeOTPAEAD           Capabilities = 1 << 0x1f
	RewrapFromOTPAEADKey       Capabilities = 1 << 0x20
	RewrapToOTPAEADKey         Capabilities = 1 << 0x21
	SignAttestationCertificate Capabilities = 1 << 0x22
	PutOTPAEADKey              Capabilities = 1 << 0x23
	GenerateOTPAEADKey         Capabilities = 1 << 0x24
	WrapData                   Capabilities = 1 << 0x25
	UnwrapData                 Capabilities = 1 << 0x26
	DeleteOpaque               Capabilities = 1 << 0x27
	DeleteAuthenticationKey    Capabilities = 1 << 0x28
	DeleteAsymmetricKey        Capabilities = 1 << 0x29
	DeleteWrapKey              Capabilities = 1 << 0x2a
	DeleteHMACKey              Capabilities = 1 << 0x2b
	DeleteTemplate             Capabilities = 1 << 0x2c
	DeleteOTPAEADKey           Capabilities = 1 << 0x2d
	ChangeAuthenticationKey    Capabilities = 1 << 0x2e
	PutSymmetricKey            Capabilities = 1 << 0x2f
	GenerateSymmetricKey       Capabilities = 1 << 0x30
	DeleteSymmetricKey         Capabilities = 1 << 0x31
	DecryptECB                 Capabilities = 1 << 0x32
	EncryptECB                 Capabilities = 1 << 0x33
	DecryptCBC                 Capabilities = 1 << 0x34
	EncryptCBC                 Capabilities = 1 << 0x35
	PutPublicWrapKey           Capabilities = 1 << 0x36
	DeletePublicWrapKey        Capabilities = 1 << 0x37
)

// capabilityNames are the names that yubihsm-shell has, by number.
var capabilityNames = [...]string{
	"get-opaque", "put-opaque", "put-authentication-key", "put-asymmetric-key", "generate-asymmetric-key", "sign-pkcs",
	"sign-pss", "sign-ecdsa", "sign-eddsa", "decrypt-pkcs", "decrypt-oaep", "derive-ecdh", "export-wrapped",
	"import-wrapped", "put-wrap-key", "generate-wrap-key", "exportable-under-wrap", "set-option", "get-option",
	"get-pseudo-random", "put-mac-key", "generate-hmac-key", "sign-hmac", "verify-hmac", "get-log-entries",
	"sign-ssh-certificate", "get-template", "put-template", "reset-device", "decrypt-otp", "create-otp-aead",
	"randomize-otp-aead", "rewrap-from-otp-aead-key", "rewrap-to-otp-aead-key", "sign-attestation-certificate",
	"put-otp-aead-key", "generate-otp-aead-key", "wrap-data", "unwrap-data", "delete-opaque",
	"delete-authentication-key", "delete-asymmetric-key", "delete-wrap-key", "delete-hmac-key", "delete-template",
	"delete-otp-aead-key", "change-authentication-key", "put-symmetric-key", "generate-symmetric-key",
	"delete-symmetric-key", "decrypt-ecb", "encrypt-ecb", "decrypt-cbc", "encrypt-cbc", "put-public-wrap-key",
	"delete-public-wrap-key",
}

// AllCapabilities is the set of those that have a name here. Bits above it are not
// documented.
const AllCapabilities Capabilities = 1<<len(capabilityNames) - 1

// Has reports whether c has all capabilities of others.
func (c Capabilities) Has(others Capabilities) bool { return c&others == others }

// String returns the names of the capabilities with commas between them, in the order of
// their numbers; one without a name is "capability-N".
func (c Capabilities) String() string {
	var names []string
	for i := range 64 {
		switch {
		case c&(1<<i) == 0:
		case i < len(capabilityNames):
			names = append(names, capabilityNames[i])
		default:
			names = append(names, "capability-"+strconv.Itoa(i))
		}
	}
	return strings.Join(names, ",")
}
