package soft

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"privyseal/internal/cure"
	"privyseal/internal/pubkey"
)

// A key file is four lines of ASCII, each ended by a line feed:
//
//	privyseal software key 1
//	type ed25519
//	public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
//	secret nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=
//
// The 1 is the version of the format. The type is CometBFT's name. Public and
// secret key are base64 in the standard alphabet, padded, unbroken: the public
// key as in genesis.json; the secret is the seed of RFC 8032 (32 bytes) for
// ed25519, or scalar and prefix (64 bytes) of a key that came without its seed,
// the scalar (32 bytes, big endian) for secp256k1 and secp256k1eth, and the
// packed private key of FIPS 204 (4032 bytes) for ml_dsa_65. Nothing else may
// stand in the file.
const header = "privyseal software key 1\n"

// maxFileSize bounds in bytes what is read as a key file. The longest is under
// 9,000 (priv_validator_key.json of an ML-DSA-65 key).
const maxFileSize = 64 << 10

// Encode returns the key file that holds the key, for the caller to clear.
func (k *Key) Encode() []byte {
	secret := k.Secret()
	defer clear(secret)
	var b bytes.Buffer
	b.Grow(maxFileSize) // or growing would leave copies of the secret behind
	fmt.Fprintf(&b, "%stype %s\npublic ", header, k.Type())
	b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), k.public.Bytes()))
	b.WriteString("\nsecret ")
	b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), secret))
	b.WriteString("\n")
	return b.Bytes()
}

// errFormat hides its cause, which could quote the file.
var errFormat = errors.New("it is truncated, or not a key file of privyseal")

// decode reads a key file. What it accepts is, byte for byte, what
// [Key.Encode] returns.
func decode(data []byte) (*Key, error) {
	rest, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		return nil, errFormat
	}
	lines := bytes.Split(rest, []byte("\n"))
	if len(lines) != 4 {
		return nil, errFormat
	}
	name, ok1 := bytes.CutPrefix(lines[0], []byte("type "))
	public, ok2 := unbase64(lines[1], "public ")
	secret, ok3 := unbase64(lines[2], "secret ")
	defer clear(secret)
	t, err := pubkey.ParseType(string(name))
	if err != nil || !ok1 || !ok2 || !ok3 {
		return nil, errFormat
	}
	if len(secret) != secretSize(t) && !(t == pubkey.Ed25519 && len(secret) == expandedSize) {
		return nil, errFormat
	}
	k, err := FromSecret(t, secret)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.public.Bytes(), public) {
		return nil, errors.New("its public key does not belong to its secret key")
	}
	again := k.Encode()
	defer clear(again)
	if !bytes.Equal(again, data) {
		return nil, errFormat
	}
	return k, nil
}

// IsMade reports whether the key file at path holds the key of a public key, or is torn.
// The zero key is no key: then only a torn file counts.
func IsMade(path string, public pubkey.Key) bool {
	if k, err := Open(path, ""); err == nil {
		defer k.Wipe()
		return !public.IsZero() && k.PublicKey().Equal(public)
	}
	data, _, err := read(path)
	defer clear(data)
	return err == nil && torn(data)
}

// torn reports whether data is the beginning of a key file that was cut off while it
// was written, or lost its bytes to a power cut: it holds no whole key.
func torn(data []byte) bool {
	n := min(len(data), len(header))
	text := bytes.TrimRight(data, "\x00")
	return len(text) == 0 || string(data[:n]) == header[:n] && (len(text) < len(data) || data[len(data)-1] != '\n' || bytes.Count(data, []byte("\n")) < 4)
}

func unbase64(line []byte, name string) ([]byte, bool) {
	text, ok := bytes.CutPrefix(line, []byte(name))
	if !ok {
		return nil, false
	}
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	return b, err == nil
}

// Open reads the key file at path. The file has to be a regular one (a
// symbolic link may lead to it) that belongs to this process's user or to root,
// with a mode of 0600 or stricter; below the folder credentials, if that is not
// empty, 0440 is good too (systemd's $CREDENTIALS_DIRECTORY). A missing file is
// an [fs.ErrNotExist].
func Open(path, credentials string) (*Key, error) {
	data, info, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cure.Add(fmt.Errorf("cannot open the key file %s: %w", path, fs.ErrNotExist), "put it back from its backup, with mode 0600; a new key would be another validator's")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the key file %s: %w", path, err)
	}
	defer clear(data)
	allowed := fs.FileMode(0o600)
	if below(path, credentials) {
		allowed = 0o640
	}
	if err := checkMode(path, info, allowed); err != nil {
		return nil, err
	}
	if uid, ok := owner(info); !ok || (uid != os.Geteuid() && uid != 0) {
		return nil, cure.Add(fmt.Errorf("the key file %s belongs to user %d, not to the one that runs privyseal, %d", path, uid, os.Geteuid()),
			"as root type %s", cure.Command("chown", strconv.Itoa(os.Geteuid()), path))
	}
	k, err := decode(data)
	if errors.Is(err, errFormat) {
		return nil, cure.Add(fmt.Errorf("cannot read the key file %s: %w", path, err), "another signer's key file is read by %s", cure.Command("privyseal", "key", "import", path, "--out", "FILE"))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the key file %s: %w", path, err)
	}
	return k, nil
}

// read returns the bytes of the file that path leads to, and what the system
// says about the very file that was read.
func read(path string) ([]byte, fs.FileInfo, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, hidePath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, hidePath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a regular file")
	}
	if info.Size() > maxFileSize {
		return nil, nil, fmt.Errorf("it has %d bytes, and a key file has at most %d", info.Size(), maxFileSize)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		clear(data)
		return nil, nil, errors.New("it changed while it was read")
	}
	return data, info, nil
}

// hidePath takes the path out of err, for callers whose text has it already.
func hidePath(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func checkMode(path string, info fs.FileInfo, allowed fs.FileMode) error {
	if perm := info.Mode().Perm(); perm&^allowed != 0 {
		return cure.Add(fmt.Errorf("the key file %s has mode %04o, so that others may have read it", path, perm), "%s", cure.Command("chmod", "600", path))
	}
	return nil
}

func owner(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, false
	}
	return int(stat.Uid), true
}

// below reports whether path leads to a file in the folder dir or below it.
func below(path, dir string) bool {
	if dir == "" {
		return false
	}
	path, err1 := filepath.EvalSymlinks(path)
	dir, err2 := filepath.EvalSymlinks(dir)
	rel, err3 := filepath.Rel(dir, path)
	return errors.Join(err1, err2, err3) == nil && filepath.IsLocal(rel)
}
