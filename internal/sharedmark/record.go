package sharedmark

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"privyseal/internal/watermark"
)

// The format of the value, version 1. Numbers are big-endian:
//
//	offset size
//	     0   18  magic and version of the format: "privyseal-shared/1"
//	    18    1  flags: 1 exported (a tombstone), 2 authenticated by a MAC
//	    19    1  step: 0 none, 1 proposal, 2 prevote, 3 precommit
//	    20    4  round
//	    24    8  height
//	    32    8  sequence: rises by one with each write, from 1
//	    40    8  when the mark was written, nanoseconds since 1970, signed
//	    48   16  lineage: random, of the init or the adoption that it descends from
//	    64   16  nonce: random, of this write
//	    80   16  writer: 8 bytes of the floor, 8 of the process
//	    96   32  key (watermark.ID)
//	   128    1  length of the chain id, from 1 to 50
//	   129    n  chain id
//	             sign bytes, to 32 bytes before the end
//	         32  SHA-256, or HMAC-SHA256 with flag 2, of "privyseal shared mark 1", a zero
//	             byte, and all that comes before
const (
	magic        = "privyseal-shared/"
	version      = '1'
	recordHead   = 129
	sumSize      = sha256.Size
	maxSignBytes = 256 // a canonical proposal, the longest message, has at most 187
	maxRecord    = recordHead + watermark.MaxChainID + maxSignBytes + sumSize

	flagExported = 1
	flagMAC      = 2

	domain = "privyseal shared mark 1\x00"
)

// record is what the value holds.
type record struct {
	id       watermark.ID
	mark     watermark.Mark
	seq      uint64
	time     int64
	lineage  [16]byte
	nonce    [16]byte
	writer   writer
	exported bool
	mac      bool
}

// writer is who wrote a record: a floor, and a process that had it open.
type writer struct{ floor, process [8]byte }

func (r *record) saved() watermark.Saved {
	return watermark.Saved{Mark: r.mark, Version: r.seq, Time: time.Unix(0, r.time)}
}

// check returns why r cannot be written, or was not written by us.
func (r *record) check() error {
	if r.seq == 0 {
		return errors.New("the sequence is 0")
	}
	return cmp.Or(r.id.Check(), r.mark.Check(maxSignBytes))
}

// encode returns the value that holds r, which has passed check.
func (r *record) encode(mac *[32]byte) []byte {
	b := append(make([]byte, 0, maxRecord), magic...)
	var flags byte
	if r.exported {
		flags |= flagExported
	}
	if r.mac {
		flags |= flagMAC
	}
	b = append(b, version, flags, byte(r.mark.Step))
	b = binary.BigEndian.AppendUint32(b, uint32(r.mark.Round))
	b = binary.BigEndian.AppendUint64(b, uint64(r.mark.Height))
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.time))
	b = append(b, r.lineage[:]...)
	b = append(b, r.nonce[:]...)
	b = append(b, r.writer.floor[:]...)
	b = append(b, r.writer.process[:]...)
	b = append(b, r.id.Key[:]...)
	b = append(b, byte(len(r.id.ChainID)))
	b = append(b, r.id.ChainID...)
	b = append(b, r.mark.SignBytes...)
	sum := checksum(b, r.mac, mac)
	return append(b, sum[:]...)
}

func checksum(body []byte, sealed bool, mac *[32]byte) [sumSize]byte {
	h := sha256.New()
	if sealed {
		h = hmac.New(sha256.New, mac[:])
	}
	h.Write([]byte(domain))
	h.Write(body)
	return [sumSize]byte(h.Sum(nil))
}

// decode reads a value. What it accepts encodes to the same bytes. The error is a fault;
// with ErrForeign the record is returned too where there is one, for those who only look.
func decode(b []byte, mac *[32]byte) (record, error) {
	if len(b) < recordHead+1+sumSize || len(b) > maxRecord || string(b[:17]) != magic {
		return record{}, refuse(ErrForeign, "what is there is not a mark of privyseal")
	}
	if b[17] != version {
		return record{}, refuse(ErrForeign, "it has format %q, and this program knows %q", b[17], byte(version))
	}
	body := b[:len(b)-sumSize]
	sealed := b[18]&flagMAC != 0
	// Before anything else is judged: one flipped bit must not look like a record that
	// somebody has written.
	if !sealed || mac != nil {
		if sum := checksum(body, sealed, mac); !hmac.Equal(sum[:], b[len(body):]) {
			return record{}, refuse(ErrDamaged, "its checksum is wrong%s", orKey(sealed))
		}
	}
	r, err := parse(body)
	switch {
	case err != nil:
		return record{}, refuse(ErrDamaged, "%v", err)
	case sealed && mac == nil:
		return r, refuse(ErrForeign, "it is authenticated by signers in enclaves, and this signer is not in one")
	case !sealed && mac != nil:
		return r, refuse(ErrForeign, "it is not authenticated, and this signer is in an enclave")
	}
	return r, nil
}

func orKey(sealed bool) string {
	if sealed {
		return ", or it was made with another key"
	}
	return ""
}

// parse reads what comes before the checksum, at least recordHead+1 bytes.
func parse(b []byte) (record, error) {
	chainEnd := recordHead + int(b[128])
	round, height := binary.BigEndian.Uint32(b[20:]), binary.BigEndian.Uint64(b[24:])
	if b[18]&^(flagExported|flagMAC) != 0 || chainEnd > len(b) || round > math.MaxInt32 || height > math.MaxInt64 {
		return record{}, errors.New("a flag, length or number is out of range")
	}
	r := record{
		id:       watermark.ID{ChainID: string(b[recordHead:chainEnd]), Key: [32]byte(b[96:128])},
		mark:     watermark.Mark{Height: int64(height), Round: int32(round), Step: watermark.Step(b[19])},
		seq:      binary.BigEndian.Uint64(b[32:]),
		time:     int64(binary.BigEndian.Uint64(b[40:])),
		lineage:  [16]byte(b[48:64]),
		nonce:    [16]byte(b[64:80]),
		writer:   writer{[8]byte(b[80:88]), [8]byte(b[88:96])},
		exported: b[18]&flagExported != 0,
		mac:      b[18]&flagMAC != 0,
	}
	if len(b) > chainEnd {
		r.mark.SignBytes = bytes.Clone(b[chainEnd:])
	}
	return r, r.check()
}

// own returns ErrForeign if r belongs to another chain or key.
func (r *record) own(id watermark.ID) error {
	switch {
	case r.id.ChainID != id.ChainID:
		return refuse(ErrForeign, "it is for chain %q, not %q", r.id.ChainID, id.ChainID)
	case r.id.Key != id.Key:
		return refuse(ErrForeign, "it is for key %x…, not %x…", r.id.Key[:8], id.Key[:8])
	}
	return nil
}

// joined returns the higher of two marks. Two of the same height, round and step with
// different sign bytes become one without any, so that neither is signed again.
func joined(a, b watermark.Mark) watermark.Mark {
	switch {
	case a.Less(b):
		return b
	case !b.Less(a) && !b.Equal(a):
		a.SignBytes = nil
	}
	return a
}
