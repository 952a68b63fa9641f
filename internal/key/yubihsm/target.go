package yubihsm

import (
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"privyseal/internal/key/yubihsm/auditlog"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// target is what has to be on each device: a key under an object id.
type target struct {
	id     uint16
	public pubkey.Key
	verify func(message, signature []byte) bool
}

// ask is the command that signs.
func (k *target) ask(ctx context.Context, s *hsm.Session, message []byte) ([]byte, error) {
	if k.public.Type() == pubkey.Ed25519 {
		return s.SignEdDSA(ctx, k.id, message)
	}
	digest := sha256.Sum256(message)
	der, err := s.SignECDSA(ctx, k.id, digest[:])
	if err != nil {
		return nil, err
	}
	return lowS(der)
}

// asks is what ask looks like in the log of a device.
func (k *target) asks(authKey uint16, message []byte) auditlog.Ask {
	a := auditlog.Ask{AuthKey: authKey, Key: k.id, Command: hsm.CommandSignEdDSA, Length: uint16(2 + len(message))}
	if k.public.Type() != pubkey.Ed25519 {
		a.Command, a.Length = hsm.CommandSignECDSA, 2+sha256.Size
	}
	return a
}

// isTooLong reports whether a message was not sent because it does not fit.
func isTooLong(err error) bool {
	var tooLong *hsm.TooLongError
	return errors.As(err, &tooLong)
}

// order256k1 is the order of the group of secp256k1 (SEC 2, 2.4.1).
var order256k1, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

// lowS returns a signature in DER as 64 bytes, r and the lower of s and its negative:
// CometBFT refuses the other one.
func lowS(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) > 0 || sig.R.Sign() < 1 || sig.S.Sign() < 1 || sig.R.Cmp(order256k1) >= 0 || sig.S.Cmp(order256k1) >= 0 {
		return nil, errors.New("it made something that is not a signature of secp256k1")
	}
	if negative := new(big.Int).Sub(order256k1, sig.S); negative.Cmp(sig.S) < 0 {
		sig.S = negative
	}
	signature := make([]byte, 64)
	sig.R.FillBytes(signature[:32])
	sig.S.FillBytes(signature[32:])
	return signature, nil
}

// PublicOf returns a device's public key as ours.
func PublicOf(k hsm.PublicKey) (pubkey.Key, error) {
	switch k.Algorithm {
	case hsm.Ed25519:
		return pubkey.New(pubkey.Ed25519, k.Bytes)
	case hsm.K256:
		x, y := k.Bytes[:32], k.Bytes[32:] // X, Y
		compressed := append([]byte{2 | y[31]&1}, x...)
		return pubkey.New(pubkey.Secp256k1, compressed)
	}
	return pubkey.Key{}, fmt.Errorf("it is a key of %v, and no chain signs with that", k.Algorithm)
}
