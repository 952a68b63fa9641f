// Package soft holds validator keys in files and in memory: it makes them,
// reads and writes their files, imports the key files of other signers, and
// signs. A software key is for testing, and for those who accept the risk:
// whoever can read the file or the memory of the process has the key forever.
//
// It keeps no mark and judges no message: it signs whatever it is handed. It
// trusts the operating system to keep files of mode 0600 to their owner, and
// nothing in a file that can be checked: the public key has to belong to the
// secret. No error, log line or print verb shows a secret.
package soft

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"filippo.io/edwards25519"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"

	"privyseal/internal/pubkey"
)

// Key is a private key. It is a [crypto.Signer] whose public key is a
// [pubkey.Key], and safe for concurrent use until it is wiped. Printed with
// any verb, logged or marshalled, it shows its public half.
type Key struct {
	public pubkey.Key
	// A pointer to pointers, because fmt ignores the methods of what lies in an
	// unexported field of somebody else's struct. It follows no pointer there,
	// or one if the verb does not suit.
	secret *secret
}

// secret has one field set.
type secret struct {
	pair     *[ed25519.PrivateKeySize]byte // seed and public key
	expanded *expanded                     // Ed25519 without its seed
	scalar   *secp256k1.PrivateKey
	lattice  *mldsa65.PrivateKey
}

func newPair(private ed25519.PrivateKey) *[ed25519.PrivateKeySize]byte {
	return (*[ed25519.PrivateKeySize]byte)(private)
}

// Generate makes a key of type t from the system's randomness.
func Generate(t pubkey.Type) (*Key, error) {
	s := &secret{}
	var err error
	switch t {
	case pubkey.Ed25519:
		var private ed25519.PrivateKey
		if _, private, err = ed25519.GenerateKey(nil); err == nil {
			s.pair = newPair(private)
		}
	case pubkey.Secp256k1, pubkey.Secp256k1Eth:
		s.scalar, err = secp256k1.GeneratePrivateKey()
	case pubkey.MLDSA65:
		_, s.lattice, err = mldsa65.GenerateKey(nil)
	default:
		_, err = pubkey.ParseType(string(t))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot generate a key: %w", err)
	}
	return newKey(t, s)
}

// secretSize returns the length in bytes of the secret of a key of type t: the
// seed of RFC 8032, a scalar, or the packed private key of FIPS 204 (a seed
// would do, but imported keys have none). Ed25519 has a second form, of
// expandedSize.
func secretSize(t pubkey.Type) int {
	if t == pubkey.MLDSA65 {
		return mldsa65.PrivateKeySize
	}
	return 32
}

// FromSecret makes the key of type t with the secret b, which it copies.
func FromSecret(t pubkey.Type, b []byte) (*Key, error) {
	if _, err := pubkey.ParseType(string(t)); err != nil {
		return nil, err
	}
	if t == pubkey.Ed25519 && len(b) == expandedSize {
		return fromExpanded(b)
	}
	if len(b) != secretSize(t) {
		return nil, fmt.Errorf("a secret key of type %s has %d bytes, not %d", t, secretSize(t), len(b))
	}
	s := &secret{}
	switch t {
	case pubkey.Ed25519:
		s.pair = newPair(ed25519.NewKeyFromSeed(b))
	case pubkey.Secp256k1, pubkey.Secp256k1Eth:
		var d secp256k1.ModNScalar
		if d.SetByteSlice(b) || d.IsZero() {
			return nil, fmt.Errorf("the secret key is out of the range of type %s", t)
		}
		s.scalar = secp256k1.NewPrivateKey(&d)
	case pubkey.MLDSA65:
		s.lattice = new(mldsa65.PrivateKey)
		if err := s.lattice.UnmarshalBinary(b); err != nil || !bytes.Equal(s.lattice.Bytes(), b) {
			return nil, errors.New("the secret key is not a packed key of type ml_dsa_65")
		}
	}
	return newKey(t, s)
}

// fromExpanded makes the key with the 64 bytes b, scalar and prefix, which it
// copies.
func fromExpanded(b []byte) (*Key, error) {
	e := &expanded{given: bytes.Clone(b[:32]), prefix: bytes.Clone(b[32:])}
	var err error
	if e.scalar, err = scalarOf(e.given); err != nil {
		return nil, err
	}
	e.public = new(edwards25519.Point).ScalarBaseMult(e.scalar).Bytes()
	// Whoever knows the prefix has the key from one signature. These two are known to
	// everybody, and both are what a program writes that has no prefix.
	if bytes.Equal(e.prefix, e.public) || bytes.Count(e.prefix, e.prefix[:1]) == len(e.prefix) {
		return nil, errors.New("the second half of the secret key is not a secret: it would give the key away with the first signature")
	}
	return newKey(pubkey.Ed25519, &secret{expanded: e})
}

// newKey derives the public key, and signs once: a packed ML-DSA-65 key holds
// parts that its public key does not depend on, and damage there would show at
// the first vote. (A few wrong bits in s2 or t0 still pass; they spoil one signature
// in many.)
func newKey(t pubkey.Type, s *secret) (*Key, error) {
	var b []byte
	switch {
	case s.pair != nil:
		b = s.pair[ed25519.SeedSize:]
	case s.expanded != nil:
		b = s.expanded.public
	case s.scalar != nil:
		b = s.scalar.PubKey().SerializeCompressed()
	case s.lattice != nil:
		b = s.lattice.Public().(*mldsa65.PublicKey).Bytes()
	}
	public, err := pubkey.New(t, b)
	if err != nil {
		return nil, err
	}
	k := &Key{public: public, secret: s}
	probe := []byte("privyseal: is this key whole?")
	sig, err := k.Sign(nil, probe, nil)
	if err != nil {
		return nil, err
	}
	if !public.Verify(probe, sig) {
		return nil, errors.New("the secret key is damaged: what it signs does not verify")
	}
	return k, nil
}

// Secret returns a copy of the secret, as FromSecret takes it: for an enclave, and
// for `key seal`, which encrypt it at once and clear it.
func (k Key) Secret() []byte {
	switch {
	case k.secret.pair != nil:
		return bytes.Clone(k.secret.pair[:ed25519.SeedSize])
	case k.secret.expanded != nil:
		return append(bytes.Clone(k.secret.expanded.given), k.secret.expanded.prefix...)
	case k.secret.scalar != nil:
		return k.secret.scalar.Serialize()
	case k.secret.lattice != nil:
		return k.secret.lattice.Bytes()
	}
	return nil
}

// Public returns the public key, a [pubkey.Key].
func (k Key) Public() crypto.PublicKey { return k.public }

// PublicKey returns the public key.
func (k Key) PublicKey() pubkey.Key { return k.public }

// Type returns the type of the key.
func (k Key) Type() pubkey.Type { return k.public.Type() }

// errWiped says that there is no secret any more.
var errWiped = errors.New("cannot sign: the key was wiped from memory")

// Sign signs the whole message, not a digest of it, and returns the signature
// in CometBFT's encoding, which [pubkey.Key.Verify] describes. The same message
// always gives the same signature; rand is not used. opts must be nil or
// crypto.Hash(0).
func (k Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts != crypto.Hash(0) {
		return nil, errors.New("cannot sign: a software key takes the whole message, and no options")
	}
	switch {
	case k.secret.pair != nil:
		return ed25519.Sign(k.secret.pair[:], message), nil
	case k.secret.expanded != nil:
		return k.secret.expanded.sign(message), nil
	case k.secret.scalar != nil:
		return k.signECDSA(message)
	case k.secret.lattice != nil:
		sig := make([]byte, mldsa65.SignatureSize)
		return sig, mldsa65.SignTo(k.secret.lattice, message, nil, false, sig)
	}
	return nil, errWiped
}

// signECDSA signs with the nonce of RFC 6979.
func (k Key) signECDSA(message []byte) ([]byte, error) {
	if k.Type() == pubkey.Secp256k1 {
		sum := sha256.Sum256(message)
		return ecdsa.SignCompact(k.secret.scalar, sum[:], false)[1:], nil
	}
	h := sha3.NewLegacyKeccak256()
	h.Write(message)
	// 27 + V, R, S becomes R, S, V. A V above 1 means a point that nobody can
	// find.
	compact := ecdsa.SignCompact(k.secret.scalar, h.Sum(nil), false)
	v := compact[0] - 27
	if v > 1 {
		return nil, errors.New("cannot sign: the signature has no V of 0 or 1")
	}
	return append(compact[1:], v), nil
}

// Ed25519 returns a copy of the key as the standard library has it, for the
// handshakes that an identity key signs; false if it is of another type, or
// has no seed.
func (k Key) Ed25519() (ed25519.PrivateKey, bool) {
	if k.secret.pair == nil {
		return nil, false
	}
	return bytes.Clone(k.secret.pair[:]), true
}

// Close wipes the key.
func (k Key) Close() error {
	k.Wipe()
	return nil
}

// Wipe overwrites the secret in memory as well as Go lets us: copies that the
// runtime or a library made stay. No Sign may be under way; later ones fail.
func (k Key) Wipe() {
	if k.secret.pair != nil {
		clear(k.secret.pair[:])
	}
	if k.secret.expanded != nil {
		k.secret.expanded.wipe()
	}
	if k.secret.scalar != nil {
		k.secret.scalar.Zero()
	}
	if k.secret.lattice != nil {
		*k.secret.lattice = mldsa65.PrivateKey{}
	}
	*k.secret = secret{}
}

// String returns type and address.
func (k Key) String() string { return "soft key " + k.public.String() }

// Format prints what String returns, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue is what slog logs: what String returns.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON returns the public key, in the form of genesis.json.
func (k Key) MarshalJSON() ([]byte, error) {
	return []byte(k.public.JSON()), nil
}
