package backup

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/yubihsm"
)

const (
	headerSize = 59
	keySize    = 96 // of both types
	plainSize  = headerSize + keySize
	seededSize = keySize + 32
)

// Backup is a key with what a device knows about it.
type Backup struct {
	yubihsm.Object // no Delegated, since keys that sign have none
	Sequence       byte
	Origin         yubihsm.Origin
	Key            *soft.Key // of type ed25519 or secp256k1
}

// errOther is a backup of something else.
var errOther = errors.New("the backup does not hold an Ed25519 or secp256k1 key")

// errMalformed is what the wrap key opens, but is no description of an object.
func errMalformed(what string) error { return errors.New("the backup is malformed: " + what) }

// parse reads what is in a backup under a wrap key of an algorithm.
func parse(plain []byte, wrap yubihsm.Algorithm) (*Backup, error) {
	if len(plain) < headerSize {
		return nil, errMalformed("it does not describe an object")
	}
	number := func(at, size int) uint64 {
		return binary.BigEndian.Uint64(append(make([]byte, 8-size, 8), plain[at:at+size]...))
	}
	b := &Backup{Sequence: plain[17], Origin: yubihsm.Origin(plain[18])}
	b.Capabilities, b.ID, b.Domains = yubihsm.Capabilities(number(1, 8)), uint16(number(9, 2)), yubihsm.Domains(number(13, 2))
	b.Algorithm, b.Label = yubihsm.Algorithm(plain[16]), strings.TrimRight(string(plain[19:headerSize]), "\x00")
	body := plain[headerSize:]
	switch typ := yubihsm.ObjectType(plain[15]); {
	case plain[0] != byte(wrap):
		return nil, errMalformed("it names another kind of wrap key")
	case number(11, 2) != uint64(len(body)):
		return nil, errMalformed("its length is another one")
	case typ != yubihsm.TypeAsymmetricKey:
		return nil, fmt.Errorf("%w: its object is of type %v", errOther, typ)
	case b.Algorithm != yubihsm.Ed25519 && b.Algorithm != yubihsm.K256:
		return nil, fmt.Errorf("%w: its key is of algorithm %v", errOther, b.Algorithm)
	case b.ID == 0:
		return nil, errMalformed("its object has no id")
	case b.Algorithm == yubihsm.Ed25519 && len(body) == seededSize:
		return nil, errors.New("the backup has the seed of the key in it, a form that is not read: export the key again without its seed")
	case len(body) != keySize:
		return nil, errMalformed("its key has another length")
	}
	var err error
	if b.Algorithm == yubihsm.Ed25519 {
		b.Key, err = fromEd25519(body)
	} else {
		b.Key, err = fromSecp256k1(body)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// plain is parse backwards.
func (b *Backup) plain(wrap yubihsm.Algorithm) ([]byte, error) {
	if b.Key == nil || b.ID == 0 || len(b.Label) > yubihsm.MaxLabel || strings.HasSuffix(b.Label, "\x00") {
		return nil, fmt.Errorf("an object with the id %d and a label of %d bytes cannot be in a backup", b.ID, len(b.Label))
	}
	var body []byte
	var err error
	switch t := b.Key.Type(); {
	case t == pubkey.Ed25519 && b.Algorithm == yubihsm.Ed25519:
		body, err = toEd25519(b.Key)
	case t == pubkey.Secp256k1 && b.Algorithm == yubihsm.K256:
		body, err = toSecp256k1(b.Key)
	default:
		err = fmt.Errorf("a key of type %s cannot be in a backup as %v", t, b.Algorithm)
	}
	if err != nil {
		return nil, err
	}
	defer clear(body)
	p := append(make([]byte, 0, plainSize), byte(wrap))
	p = binary.BigEndian.AppendUint64(p, uint64(b.Capabilities))
	for _, n := range []int{int(b.ID), len(body), int(b.Domains)} {
		p = binary.BigEndian.AppendUint16(p, uint16(n))
	}
	p = append(p, byte(yubihsm.TypeAsymmetricKey), byte(b.Algorithm), b.Sequence, byte(b.Origin))
	p = append(append(p, b.Label...), make([]byte, yubihsm.MaxLabel-len(b.Label))...)
	return append(p, body...), nil
}

// errPair is a key whose halves do not belong together.
var errPair = errMalformed("its public key does not belong to its secret key")

func fromEd25519(body []byte) (*soft.Key, error) {
	expanded := bytes.Clone(body[:64])
	defer clear(expanded)
	slices.Reverse(expanded[:32])
	k, err := soft.FromSecret(pubkey.Ed25519, expanded)
	switch {
	case err != nil:
		return nil, errMalformed(err.Error())
	case !bytes.Equal(k.PublicKey().Bytes(), body[64:]):
		k.Wipe()
		return nil, errPair
	}
	return k, nil
}

func toEd25519(k *soft.Key) ([]byte, error) {
	secret := k.Secret()
	defer clear(secret)
	body := make([]byte, 0, keySize)
	switch len(secret) {
	case 32: // a seed
		h := sha512.Sum512(secret)
		h[0] &= 248
		h[31] = h[31]&127 | 64
		body = append(body, h[:]...)
		clear(h[:])
	case 64:
		body = append(body, secret...)
	default:
		return nil, errors.New("the key was wiped from memory")
	}
	if body[0]&7 != 0 || body[31]&0xc0 != 0x40 {
		clear(body)
		return nil, errors.New("the key was made from shares, and its scalar is not one that a YubiHSM takes (RFC 8032, 5.1.5)")
	}
	slices.Reverse(body[:32])
	return append(body, k.PublicKey().Bytes()...), nil
}

func fromSecp256k1(body []byte) (*soft.Key, error) {
	k, err := soft.FromSecret(pubkey.Secp256k1, body[:32])
	if err != nil {
		return nil, errMalformed(err.Error())
	}
	if coordinates, err := coordinatesOf(k); err != nil || !bytes.Equal(coordinates, body[32:]) {
		k.Wipe()
		return nil, errPair
	}
	return k, nil
}

func toSecp256k1(k *soft.Key) ([]byte, error) {
	secret := k.Secret()
	defer clear(secret)
	coordinates, err := coordinatesOf(k)
	if err != nil {
		return nil, err
	}
	if len(secret) != 32 {
		return nil, errors.New("the key was wiped from memory")
	}
	return append(append(make([]byte, 0, keySize), secret...), coordinates...), nil
}

// coordinatesOf returns x and y of a public key.
func coordinatesOf(k *soft.Key) ([]byte, error) {
	p, err := secp256k1.ParsePubKey(k.PublicKey().Bytes())
	if err != nil {
		return nil, err
	}
	return p.SerializeUncompressed()[1:], nil
}
