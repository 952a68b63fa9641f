package hostlink

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"

	"privyseal/internal/watermark"
)

// Record is one state of a mark, as the host keeps it for an enclave.
type Record struct {
	// Seq rises by one with each record of a key, from 1.
	Seq uint64
	// Boot is the boot of the enclave that made it: 16 random bytes, or zeros if it was
	// made outside, with the key.
	Boot [16]byte
	Time time.Time // of making, by the enclave's clock
	Mark watermark.Mark
}

// Key authenticates the records of one chain and key. It is derived from the
// consensus key, so only who holds that can make records.
type Key [32]byte

// RecordKey derives what the records of a consensus key's state are authenticated with.
func RecordKey(of interface {
	Derive(use string) ([32]byte, error)
}) (Key, error) {
	k, err := of.Derive("state record 1")
	return Key(k), err
}

// FirstSeq is the number of the first record of a state that is made now: far above every
// number that a lost state of the key can have reached, so that a twin with that state is
// never the newer one.
func FirstSeq(now time.Time) uint64 { return uint64(now.Unix()) << 20 }

// The sealed form, numbers big-endian:
//
//	offset size
//	     0    8  seq
//	     8   16  boot
//	    24    8  time, nanoseconds since 1970, signed
//	    32    8  height
//	    40    4  round
//	    44    1  step
//	    45    n  sign bytes, to 32 bytes before the end
//	         32  HMAC-SHA256 over "privyseal record 1", a zero byte, the length
//	             of the chain id as one byte, the chain id, the key id, and all
//	             that comes before
//
// Chain and key are not in it but under the MAC: a record of another chain or
// key does not verify.
const (
	recordHead = 45
	macSize    = sha256.Size

	// MaxRecord is the longest sealed record in bytes. It fits into the sign
	// bytes of a filestore record, where the host keeps it.
	MaxRecord = 276

	maxSignBytes = MaxRecord - recordHead - macSize
)

// ErrForged says that a record was not made by an enclave with this key, for
// this chain.
var ErrForged = errors.New("the record of the state does not authenticate: it is of another chain or key, or was altered")

// Seal returns the record as the host gets it.
func (k Key) Seal(id watermark.ID, r Record) ([]byte, error) {
	m := r.Mark
	if r.Seq == 0 || m.Check(maxSignBytes) != nil {
		return nil, fmt.Errorf("cannot seal record %d of the state at %v with %d sign bytes", r.Seq, m, len(m.SignBytes))
	}
	b := make([]byte, 0, MaxRecord)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = append(b, r.Boot[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Height))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Round))
	b = append(b, byte(m.Step))
	b = append(b, m.SignBytes...)
	return k.mac(b, id, b), nil
}

// Open returns the record that the host gave us. What it accepts was sealed
// with this key for this chain.
func (k Key) Open(id watermark.ID, sealed []byte) (Record, error) {
	if len(sealed) < recordHead+macSize || len(sealed) > MaxRecord {
		return Record{}, ErrForged
	}
	body := sealed[:len(sealed)-macSize]
	if !hmac.Equal(k.mac(nil, id, body), sealed[len(body):]) {
		return Record{}, ErrForged
	}
	return parseRecord(body), nil
}

// parseRecord reads the part of a record before its MAC.
func parseRecord(b []byte) Record {
	r := Record{
		Seq:  binary.BigEndian.Uint64(b),
		Boot: [16]byte(b[8:24]),
		Time: time.Unix(0, int64(binary.BigEndian.Uint64(b[24:]))),
		Mark: watermark.Mark{
			Height: int64(binary.BigEndian.Uint64(b[32:])),
			Round:  int32(binary.BigEndian.Uint32(b[40:])),
			Step:   watermark.Step(b[44]),
		},
	}
	if len(b) > recordHead {
		r.Mark.SignBytes = append([]byte(nil), b[recordHead:]...)
	}
	return r
}

// ReadRecord reads a sealed record without verifying it, as the host does,
// which has no key. Whoever gave it may have made it up.
func ReadRecord(sealed []byte) (Record, error) {
	if len(sealed) < recordHead+macSize || len(sealed) > MaxRecord {
		return Record{}, fmt.Errorf("a record of %d bytes", len(sealed))
	}
	r := parseRecord(sealed[:len(sealed)-macSize])
	if r.Seq == 0 || r.Mark.Check(maxSignBytes) != nil {
		return Record{}, errors.New("a record out of range")
	}
	return r, nil
}

// Attested returns a mark as documents write it: height/round/step, and where it
// is known what was signed there, another "/" and a tag of that in 11 characters
// (8 bytes, URL-safe base64). Two boots with different tags at one height, round
// and step have signed two blocks there.
//
// The tag is one that only enclaves with the key can make, so that a host cannot
// look for two blocks with the same.
func (k Key) Attested(id watermark.ID, m watermark.Mark) string {
	if len(m.SignBytes) == 0 {
		return m.String()
	}
	h := k.hash("privyseal mark 1\x00", id)
	h.Write(m.SignBytes)
	return m.String() + "/" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:8])
}

// mac appends the MAC over body.
func (k Key) mac(dst []byte, id watermark.ID, body []byte) []byte {
	h := k.hash("privyseal record 1\x00", id)
	h.Write(body)
	return h.Sum(dst)
}

// hash returns an HMAC that has taken a purpose, and what it is about.
func (k Key) hash(purpose string, id watermark.ID) hash.Hash {
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte(purpose))
	h.Write([]byte{byte(len(id.ChainID))})
	h.Write([]byte(id.ChainID))
	h.Write(id.Key[:])
	return h
}
