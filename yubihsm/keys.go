package yubihsm

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
)

// PublicKey is the public half of an asymmetric key.
type PublicKey struct {
	Algorithm Algorithm
	// Bytes are, of Ed25519, the 32 bytes of RFC 8032; of a curve, X and Y of the point, big
	// endian and of equal length (64 bytes for K256 and P256); of RSA, the modulus.
	Bytes []byte
}

// publicSizes are the sizes of public keys in bytes.
var publicSizes = map[Algorithm]int{
	Ed25519: 32, P224: 56, P256: 64, K256: 64, BP256: 64, P384: 96, BP384: 96, BP512: 128, P521: 132,
	RSA2048: 256, RSA3072: 384, RSA4096: 512,
}

func parsePublicKey(answer []byte) (PublicKey, error) {
	f := fields{rest: answer}
	k := PublicKey{Algorithm: Algorithm(f.byte()), Bytes: f.rest}
	if size, known := publicSizes[k.Algorithm]; f.short || known && len(k.Bytes) != size {
		return PublicKey{}, malformed("a public key of %v has not %d bytes", k.Algorithm, len(k.Bytes))
	}
	return k, nil
}

// GenerateAsymmetricKey has the device make a key, and returns its id. It needs
// [GenerateAsymmetricKey].
func (s *Session) GenerateAsymmetricKey(ctx context.Context, o Object) (uint16, error) {
	return s.create(ctx, CommandGenerateAsymmetricKey, o, false)
}

// PutAsymmetricKey stores a private key, and returns its id. It needs [PutAsymmetricKey].
// private is, for Ed25519, the seed of 32 bytes (RFC 8032); for a curve, the scalar, big
// endian and as long as the curve's order; for RSA, the primes P and Q.
func (s *Session) PutAsymmetricKey(ctx context.Context, o Object, private []byte) (uint16, error) {
	return s.create(ctx, CommandPutAsymmetricKey, o, false, private)
}

// PublicKey returns the public half of an asymmetric key.
func (s *Session) PublicKey(ctx context.Context, id uint16) (PublicKey, error) {
	answer, err := s.Send(ctx, CommandGetPublicKey, binary.BigEndian.AppendUint16(nil, id))
	if err != nil {
		return PublicKey{}, err
	}
	return parsePublicKey(answer)
}

// SignEdDSA signs a whole message with a key of algorithm [Ed25519], and returns the 64 bytes
// of the signature (RFC 8032, PureEdDSA). It needs [SignEdDSA], of the session's
// authentication key and of the key. The message may have 2026 bytes, and 3114 from firmware
// 2.4 on ([Session.DeviceInfo]); with more it is a [*TooLongError]. The signature is not
// verified here: do that before it leaves.
func (s *Session) SignEdDSA(ctx context.Context, id uint16, message []byte) ([]byte, error) {
	signature, err := s.Send(ctx, CommandSignEdDSA, append(binary.BigEndian.AppendUint16(nil, id), message...))
	if err == nil && len(signature) != 64 {
		return nil, malformed("a signature of %d bytes", len(signature))
	}
	return signature, err
}

// SignECDSA signs a digest, as the 32 bytes of SHA-256, with a key of a curve, and returns the signature as ASN.1 DER, a
// sequence of r and s. It needs [SignECDSA], of the session's authentication key and of the
// key. s is as the device has it, not the lower of two. The signature is not verified here:
// do that before it leaves.
func (s *Session) SignECDSA(ctx context.Context, id uint16, digest []byte) ([]byte, error) {
	answer, err := s.Send(ctx, CommandSignECDSA, append(binary.BigEndian.AppendUint16(nil, id), digest...))
	if err != nil {
		return nil, err
	}
	return parseECDSA(answer)
}

// parseECDSA returns the answer if it is a signature in DER, of two positive integers.
func parseECDSA(answer []byte) ([]byte, error) {
	var signature struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(answer, &signature)
	if err != nil || len(rest) > 0 || signature.R.Sign() < 1 || signature.S.Sign() < 1 {
		return nil, malformed("%d bytes are no ECDSA signature", len(answer))
	}
	return answer, nil
}

// SignAttestationCertificate returns an X.509 certificate, as DER, over the public half of an
// asymmetric key: in its extensions, how the key came into the device, and its capabilities,
// domains, id and label. attesting is the key that signs it, and 0 the one that Yubico put
// into the device. It needs [SignAttestationCertificate], of the session's authentication key
// and of attesting, if that is not 0. The certificate is not verified here.
func (s *Session) SignAttestationCertificate(ctx context.Context, id, attesting uint16) ([]byte, error) {
	data := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, id), attesting)
	answer, err := s.Send(ctx, CommandSignAttestationCertificate, data)
	if err != nil {
		return nil, err
	}
	return parseDER(answer)
}

// parseDER returns the answer if it is one ASN.1 sequence and nothing else.
func parseDER(answer []byte) ([]byte, error) {
	var sequence asn1.RawValue
	rest, err := asn1.Unmarshal(answer, &sequence)
	if err != nil || len(rest) > 0 || sequence.Class != asn1.ClassUniversal || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
		return nil, malformed("%d bytes are no certificate", len(answer))
	}
	return answer, nil
}

// GenerateWrapKey has the device make a wrap key, of [AES128CCMWrap], [AES192CCMWrap] or
// [AES256CCMWrap], and returns its id. It needs [GenerateWrapKey].
func (s *Session) GenerateWrapKey(ctx context.Context, o Object) (uint16, error) {
	return s.create(ctx, CommandGenerateWrapKey, o, true)
}

// PutWrapKey stores a wrap key of 16, 24 or 32 bytes, as its algorithm wants, and returns its
// id. It needs [PutWrapKey].
func (s *Session) PutWrapKey(ctx context.Context, o Object, key []byte) (uint16, error) {
	if size := map[Algorithm]int{AES128CCMWrap: 16, AES192CCMWrap: 24, AES256CCMWrap: 32}[o.Algorithm]; size == 0 || len(key) != size {
		return 0, fmt.Errorf("a wrap key of %v has not %d bytes", o.Algorithm, len(key))
	}
	return s.create(ctx, CommandPutWrapKey, o, true, key)
}

// ExportWrapped returns an object encrypted under a wrap key: a nonce of 13 bytes, and
// ciphertext and tag of AES-CCM. It needs [ExportWrapped], of the session's authentication
// key and of the wrap key, and [ExportableUnderWrap] of the object; the object's capabilities
// must be among the delegated ones of the wrap key.
func (s *Session) ExportWrapped(ctx context.Context, wrap uint16, t ObjectType, id uint16) ([]byte, error) {
	data := append(binary.BigEndian.AppendUint16(nil, wrap), byte(t))
	blob, err := s.Send(ctx, CommandExportWrapped, binary.BigEndian.AppendUint16(data, id))
	if err == nil && len(blob) <= wrapOverhead {
		return nil, malformed("%d bytes are no wrapped object", len(blob))
	}
	return blob, err
}

const wrapOverhead = 13 + 16 // nonce and tag

// ImportWrapped stores an object that was exported under the same wrap key, and returns its
// type and id, which are those that it had. It needs [ImportWrapped], of the session's
// authentication key and of the wrap key.
func (s *Session) ImportWrapped(ctx context.Context, wrap uint16, blob []byte) (ObjectType, uint16, error) {
	answer, err := s.Send(ctx, CommandImportWrapped, append(binary.BigEndian.AppendUint16(nil, wrap), blob...))
	if err != nil {
		return 0, 0, err
	}
	return parseImported(answer)
}

func parseImported(answer []byte) (ObjectType, uint16, error) {
	f := fields{rest: answer}
	t, id := ObjectType(f.byte()), f.uint16()
	return t, id, f.done("type and id of an imported object")
}

// WrapData returns data encrypted under a wrap key: a nonce of 13 bytes, and ciphertext and
// tag of AES-CCM. It needs [WrapData], of the session's authentication key and of the wrap
// key.
func (s *Session) WrapData(ctx context.Context, wrap uint16, data []byte) ([]byte, error) {
	blob, err := s.Send(ctx, CommandWrapData, append(binary.BigEndian.AppendUint16(nil, wrap), data...))
	if err == nil && len(blob) != len(data)+wrapOverhead {
		return nil, malformed("%d bytes are wrapped as %d", len(data), len(blob))
	}
	return blob, err
}

// UnwrapData returns the data that [Session.WrapData] encrypted under the same wrap key. It
// needs [UnwrapData], of the session's authentication key and of the wrap key. A blob that was
// changed, or is of another wrap key, is a [*DeviceError] with [InvalidData].
func (s *Session) UnwrapData(ctx context.Context, wrap uint16, blob []byte) ([]byte, error) {
	if len(blob) < wrapOverhead {
		return nil, fmt.Errorf("%d bytes are no wrapped data, which have %d more than the data", len(blob), wrapOverhead)
	}
	data, err := s.Send(ctx, CommandUnwrapData, append(binary.BigEndian.AppendUint16(nil, wrap), blob...))
	if err == nil && len(data) != len(blob)-wrapOverhead {
		return nil, malformed("%d bytes are unwrapped as %d", len(blob), len(data))
	}
	return data, err
}
