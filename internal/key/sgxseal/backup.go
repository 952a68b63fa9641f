package sgxseal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"privyseal/internal/kwp"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

// A backup is a file that a host may keep and anybody may read. It is
//
//	"privyseal backup 1\n"        (without a length)
//	recipient                     (policy.Recipient.ID: a kind, and which key)
//	chain id                      (empty for an identity)
//	key type                      (CometBFT's name)
//	public key                    (in its raw form)
//	origin
//	encrypted                     (the key of this backup, 32 random bytes, for the recipient)
//	sealed                        (AES-256-GCM under it: nonce, ciphertext, tag)
//
// All before sealed is its additional data. The key is encrypted by HPKE of RFC 9180, whose
// info is all before encrypted, or as PKCS#11's CKM_RSA_AES_KEY_WRAP has it, with SHA-256 and
// an AES key of 256 bits, which HSMs open.
const backupMagic = BackupFirstLine + "\n"

// BackupFirstLine is how a backup begins.
const BackupFirstLine = "privyseal backup 1"

const (
	maxRecipient = 64
	maxEncrypted = 512 + 40 // for an RSA key of 4096 bits
)

// errBackup says that this is not a backup.
var errBackup = errors.New("not a backup of a key, or a damaged one")

// Backup is the part of a backup that is not sealed. Nothing proves it: anybody can make one.
type Backup struct {
	Recipient string // policy.Recipient.ID
	Head
	Encrypted []byte // the key of the backup, for the recipient
}

// InspectBackup returns what a backup says in the clear. It takes exactly what an enclave
// writes.
func InspectBackup(file []byte) (Backup, error) {
	b, _, err := parseBackup(file)
	return b, err
}

func parseBackup(file []byte) (b Backup, sealed []byte, err error) {
	rest, ok := bytes.CutPrefix(file, []byte(backupMagic))
	if !ok {
		return Backup{}, nil, fmt.Errorf("%w: it does not begin as one", errBackup)
	}
	f := fields{rest: rest}
	b.Recipient = string(f.next(1, maxRecipient))
	b.Head = f.head()
	b.Encrypted = f.next(1, maxEncrypted)
	sealed = f.next(minSealed, maxSealed)
	if !f.done() {
		return Backup{}, nil, fmt.Errorf("%w: it is cut off, or its fields are invalid", errBackup)
	}
	return b, sealed, nil
}

// info returns all before encrypted.
func (b *Backup) info() []byte { return b.append(appendField([]byte(backupMagic), b.Recipient)) }

// before returns all before sealed.
func (b *Backup) before() []byte { return appendField(b.info(), b.Encrypted) }

// makeBackup makes the backup of a key.
func makeBackup(to policy.Recipient, k *secret.Key) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	defer clear(key)
	b := Backup{Recipient: to.ID(), Head: headOf(k)}
	var err error
	if b.Encrypted, err = encryptTo(to, key, b.info()); err != nil {
		return nil, err
	}
	return encrypt(key, b.before(), k)
}

// OpenBackup opens a backup with its key, of [Recovery.Key] or [KeyUnder]. What comes out is
// the secret itself, whose public half the caller has to compare.
func OpenBackup(file, key []byte) (secret.Key, error) {
	b, sealed, err := parseBackup(file)
	if err != nil {
		return secret.Key{}, err
	}
	return decrypt(key, b.before(), sealed, b.Head)
}

// Key returns the key of a backup, which its recipient can decrypt. The rest of the file is
// opened with it, so that it is whole, and the secret in there is dropped. Whose key it is a
// backup of is for the caller to compare.
func (r Recovery) Key(file []byte) ([]byte, error) {
	b, err := InspectBackup(file)
	if err != nil {
		return nil, err
	}
	if id := r.Recipient().ID(); id != b.Recipient {
		return nil, fmt.Errorf("the backup is for the recovery key %s, and this one is %s", printable(b.Recipient), id)
	}
	key, err := r.decrypt(b.Encrypted, b.info())
	return opens(file, key, err)
}

// wrappedSize is how many bytes the key of a backup has under the AES key of an HSM.
const wrappedSize = keySize + 8

// ForHSM returns what an HSM with the recovery key, one of RSA, decrypts by RSA-OAEP with
// SHA-256: an AES key, for [KeyUnder]. It is nil for other backups.
func (b Backup) ForHSM() []byte {
	if n := len(b.Encrypted) - wrappedSize; n >= 256 {
		return b.Encrypted[:n]
	}
	return nil
}

// KeyUnder is [Recovery.Key] for a recovery key in an HSM, with the AES key that it has
// decrypted.
func KeyUnder(file, kek []byte) ([]byte, error) {
	b, err := InspectBackup(file)
	if err != nil {
		return nil, err
	}
	head := b.ForHSM()
	if head == nil {
		return nil, errors.New("the backup is not for a recovery key of RSA")
	}
	key, err := kwp.Unwrap(kek, b.Encrypted[len(head):])
	return opens(file, key, err)
}

// opens returns the key of a backup, if it opens it.
func opens(file, key []byte, err error) ([]byte, error) {
	if err == nil && len(key) != keySize {
		err = errKey
	}
	if err == nil {
		var k secret.Key
		k, err = OpenBackup(file, key)
		k.Secret.Clear()
	}
	if err != nil {
		clear(key)
		return nil, errors.New("the backup is damaged: it does not open with the recovery key that it names")
	}
	return key, nil
}

// printable returns what somebody else's file says, for a terminal.
func printable(text string) string {
	quoted := fmt.Sprintf("%+q", text)
	return quoted[1 : len(quoted)-1]
}
