package sgxseal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/kwp"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

// Config is what a Sealer needs. All fields but Now are required.
type Config struct {
	Policy *policy.Policy // one of SGX
	// Key returns the CPU's 16 bytes for a seal of package policy, as Gramine has them in
	// /dev/attestation/keys/_sgx_mrenclave and _sgx_mrsigner. It is asked once.
	Key func(seal string) ([]byte, error)
	Now func() time.Time // nil: time.Now
}

// Sealer seals keys, makes their backups, and brings them back. Its methods may run at once.
type Sealer struct {
	seal      string
	recipient policy.Recipient
	cpu       [cpuKeySize]byte
	now       func() time.Time
}

// cpuKeySize is how many bytes EGETKEY returns.
const cpuKeySize = 16

// WrapKeyType is the key type of a sealed wrap key: an RSA key that the key of a backup is
// encrypted to, for one enclave on one CPU.
const WrapKeyType = "rsa-2048-wrap"

// EncryptedSize is how many bytes the key of a backup has, encrypted to a wrap key.
const EncryptedSize = 256 + 40

// New asks for the CPU's key. What is not one is refused: outside of an enclave, some of
// those who emulate one answer with zeros.
func New(c Config) (*Sealer, error) {
	s := &Sealer{seal: c.Policy.Seal, recipient: c.Policy.Recipient(), now: c.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if s.recipient == (policy.Recipient{}) {
		return nil, errors.New("the policy names no recovery_key")
	}
	key, err := c.Key(s.seal)
	if err != nil {
		return nil, fmt.Errorf("cannot get the CPU's seal key: %w", err)
	}
	defer clear(key)
	if len(key) != cpuKeySize {
		return nil, fmt.Errorf("the CPU's seal key has %d bytes, not %d", len(key), cpuKeySize)
	}
	copy(s.cpu[:], key)
	if s.cpu == [cpuKeySize]byte{} {
		return nil, errors.New("the CPU's seal key is all zeros: this is not an enclave of Intel SGX, or one in simulation")
	}
	return s, nil
}

// Wrap seals a key for this CPU.
func (s *Sealer) Wrap(_ context.Context, _ secret.AWS, k secret.Key) ([]byte, error) {
	if err := s.ready(&k); err != nil {
		return nil, fmt.Errorf("cannot seal the key: %w", err)
	}
	return (&Sealed{Seal: s.seal, Head: headOf(&k)}).seal(s.cpu[:], &k)
}

func (s *Sealer) ready(k *secret.Key) error {
	if k.Created.IsZero() {
		k.Created = s.now()
	}
	return check(k)
}

// Unwrap opens a key that was sealed by this policy's seal on this CPU. All in the result is
// authenticated: an enclave that the CPU gives the same key wrote it. Which of its sealed keys
// the host handed in, the caller has to check.
func (s *Sealer) Unwrap(_ context.Context, _ secret.AWS, file []byte) (secret.Key, error) {
	next := "bring the key back from its backup with `privyseal sgx recover`"
	if h, _, err := parseSealed(file); err == nil && h.ChainID == "" {
		next = "bring the identity back from its backup with `privyseal sgx recover --identity`"
	}
	k, err := s.unseal(file, next)
	if err == nil && k.KeyType == WrapKeyType {
		k.Secret.Clear()
		return secret.Key{}, &Error{errors.New("this is a wrap key, which signs nothing"), "correct the path in the config"}
	}
	return k, err
}

func (s *Sealer) unseal(file []byte, next string) (secret.Key, error) {
	h, sealed, err := parseSealed(file)
	if err != nil {
		return secret.Key{}, &Error{fmt.Errorf("cannot open the sealed key: %w", err), next}
	}
	// The file does not choose who else could have written it.
	if h.Seal != s.seal {
		return secret.Key{}, &Error{fmt.Errorf("the key is sealed to %s, and the measured policy seals to %s", printable(h.Seal), s.seal), next}
	}
	k, err := h.open(s.cpu[:], sealed)
	if err != nil {
		return secret.Key{}, &Error{errors.New(otherCPU[s.seal]), next}
	}
	return k, nil
}

// otherCPU says what may have happened, by seal.
var otherCPU = map[string]string{
	policy.SealMRENCLAVE: "the sealed key does not open here: it was sealed on another CPU, by another build of the program or its policy, or before the CPU's microcode was updated; or it is damaged",
	policy.SealMRSIGNER:  "the sealed key does not open here: it was sealed on another CPU, by a program of another signer, or before the CPU's microcode was updated; or it is damaged",
}

// Decrypt refuses: there is no KMS.
func (s *Sealer) Decrypt(context.Context, secret.AWS, []byte) ([]byte, error) {
	return nil, &Error{errors.New("an enclave of Intel SGX has no KMS, and opens no ciphertext of one"), "seal the secret to the import key of the enclave"}
}

// Backup makes the backup of a key, for the recipient of the policy.
func (s *Sealer) Backup(k secret.Key) ([]byte, error) {
	err := s.ready(&k)
	var file []byte
	if err == nil {
		file, err = makeBackup(s.recipient, &k)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the backup of the key: %w", err)
	}
	return file, nil
}

// MakeBackup makes the backup of a key where no enclave does: by somebody who has the key.
func MakeBackup(to policy.Recipient, k secret.Key) ([]byte, error) {
	return (&Sealer{recipient: to, now: time.Now}).Backup(k)
}

// WrapKey makes an RSA key of 2048 bits that the key of a backup can be encrypted to. Its
// private half is sealed as keys are; public is in the form of PKIX.
func (s *Sealer) WrapKey() (sealed, public []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	if public, err = x509.MarshalPKIXPublicKey(&private.PublicKey); err != nil {
		return nil, nil, err
	}
	k := secret.Key{KeyType: WrapKeyType, Public: public, Origin: claims.Generated, Secret: secret.NewBytes(x509.MarshalPKCS1PrivateKey(private))}
	defer k.Secret.Clear()
	sealed, err = s.Wrap(context.Background(), secret.AWS{}, k)
	return sealed, public, err
}

// Recover opens a backup with its key, which is encrypted to a wrap key of this enclave, in
// the 296 bytes of kwp.WrapRSA. Whose key comes out, the caller has to compare with what he
// expects: whoever knows a secret can make a backup of it.
func (s *Sealer) Recover(wrapKey, encrypted, backup []byte) (secret.Key, error) {
	b, _, err := parseBackup(backup)
	if err != nil {
		return secret.Key{}, fmt.Errorf("cannot open the backup: %w", err)
	}
	if id := s.recipient.ID(); b.Recipient != id {
		return secret.Key{}, &Error{fmt.Errorf("the backup is for the recovery key %s, and the measured policy names %s", printable(b.Recipient), id), "build the enclave with a policy that names the recovery key of the backup"}
	}
	private, err := s.openWrapKey(wrapKey)
	if err != nil {
		return secret.Key{}, err
	}
	key, err := kwp.UnwrapRSA(private, encrypted)
	if err != nil || len(encrypted) != EncryptedSize || len(key) != keySize {
		return secret.Key{}, &Error{errors.New("the key of the backup is not encrypted to this wrap key"), "name the wrap key of the document that it was encrypted for, with --wrap-key; or " + openBackupNext}
	}
	defer clear(key)
	k, err := OpenBackup(backup, key)
	if err != nil {
		return secret.Key{}, &Error{errors.New("the backup does not open with this key: it is the key of another backup, or the backup is damaged"), openBackupNext}
	}
	return k, nil
}

const openBackupNext = "encrypt the key of the backup again, with `privyseal sgx open-backup`"

// openWrapKey opens a wrap key, and nothing that has another purpose.
func (s *Sealer) openWrapKey(file []byte) (*rsa.PrivateKey, error) {
	const next = "make a wrap key on this machine with `privyseal sgx cloud-wrap`, and have the key of the backup encrypted to that"
	k, err := s.unseal(file, next)
	if err != nil {
		return nil, err
	}
	defer k.Secret.Clear()
	if k.KeyType != WrapKeyType {
		return nil, &Error{fmt.Errorf("this is not a wrap key, but one of type %s", printable(k.KeyType)), next}
	}
	private, err := x509.ParsePKCS1PrivateKey(k.Secret.Reveal())
	if err != nil {
		return nil, err
	}
	if public, err := x509.MarshalPKIXPublicKey(&private.PublicKey); err != nil || !bytes.Equal(public, k.Public) {
		return nil, errors.New("the wrap key is not the one that its file names")
	}
	return private, nil
}

// Error is why a file cannot be used, and what to do then.
type Error struct {
	Err  error
	next string
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Cure returns what an operator does next.
func (e *Error) Cure() string { return e.next }
