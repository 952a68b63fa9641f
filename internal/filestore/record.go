package filestore

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"privyseal/internal/watermark"
)

// The format of a state file, version 2.
//
// The file is 128 KiB long. It has two slots of 1,024 bytes, slot 0 at offset 0
// and slot 1 at offset 64 KiB; all else is zeros, written as such, so that no
// later write allocates anything. A slot holds one record twice, in two sectors
// of 512 bytes, so that damage to one sector costs nothing. Record number n
// stands in slot n mod 2. Numbers rise by one with each write, so the two slots of
// a whole file carry neighbouring numbers, and the higher one rules.
//
// A record, numbers big-endian:
//
//	offset size
//	     0   16  magic and version of the format: "privyseal-mark/2"
//	    16    1  flags: 1 exported (a tombstone), 2 authenticated by a MAC,
//	             4 closed (in a companion only, see companion_linux.go),
//	             8 shared with other hosts (in what a host remembers only, see host_linux.go)
//	    17    1  step: 0 none, 1 proposal, 2 prevote, 3 precommit
//	    18    2  length of the sign bytes
//	    20    4  round
//	    24    8  number of the record, from 1
//	    32    8  when the mark was written, nanoseconds since 1970, signed
//	    40    8  height
//	    48    1  length of the chain id, from 1 to 50
//	    49   50  chain id
//	    99    1  zero
//	   100   32  key (watermark.ID)
//	   132   16  machine: the start of SHA-256 over "privyseal machine", a zero
//	             byte and the text of /etc/machine-id; zeros where that file is
//	             absent or still empty, as in many containers
//	   148   16  file: the start of SHA-256 over the kernel's handle of the file
//	             (type and bytes, name_to_handle_at(2): inode and generation)
//	   164   16  companion: the same of the file beside it, which each start that
//	             writes makes again
//	   180    8  when the record was written, nanoseconds since 1970, signed
//	   188    8  in a companion: when the record was last found to rule, before the
//	             file was changed, nanoseconds since 1970, signed; else zero
//	   196    8  inode, for people
//	   204  276  sign bytes
//	   480   32  SHA-256, or HMAC-SHA256 with flag 2, of all that comes before
//
// Chain id and sign bytes are filled up with zeros. A mark without sign bytes
// has the length 0.
//
// Version 1 had slots of one record, 32 bytes each of machine and file at 132 and
// 164, and no companion. Its marks are read, to be adopted; nothing is signed with
// them as they are.
const (
	recordSize = 512
	slotSize   = 2 * recordSize
	slotOffset = 64 << 10
	fileSize   = 128 << 10

	magic       = "privyseal-mark/"
	version     = '2'
	version1    = '1'
	sumOffset   = recordSize - sha256.Size
	chainOffset = 49
	chainSize   = watermark.MaxChainID
	bytesOffset = 204

	// MaxSignBytes is the longest sign bytes that a record takes. A canonical
	// proposal, the longest message, has at most 187 bytes; a record of an enclave
	// fills them.
	MaxSignBytes = sumOffset - bytesOffset

	flagExported = 1
	flagMAC      = 2
	flagClosed   = 4
	flagShared   = 8
)

// record is what one slot holds.
type record struct {
	seq      uint64
	time     int64 // of the mark, nanoseconds since 1970
	stamp    int64 // of the record, nanoseconds since 1970
	seen     int64 // of a companion: when this record was found to rule, or 0
	id       watermark.ID
	mark     watermark.Mark
	exported bool
	mac      bool // decoded under a MAC, or to be encoded under one
	closed   bool // of a companion: nothing was written after it
	shared   bool // of the host: the mark is not in a file, and signers of other hosts raise it too
	old      bool // of version 1
	binding  binding
	// companion names the file beside the state that was made for the first write of
	// the process which has written the record.
	companion fileID
	// path is that of the state, where the host remembers it; "" is not known.
	path string
}

// fileID names a file for as long as it exists: no other file of the same file
// system, also a later one with the same inode number, has the same.
type fileID [16]byte

// binding is the machine and the file that a record was written for. The
// device number is not part of it: it changes from one boot to the next.
type binding struct {
	machine [16]byte
	file    fileID
	inode   uint64
}

var (
	// errBad is a sector that no write of ours has completed, or that was damaged
	// since.
	errBad = errors.New("bad checksum")
	// errAlien is a record that was completed, but not by this program, or not
	// with this key for the MAC. It must not be mistaken for a bad one: it may be
	// the one that counts.
	errAlien = errors.New("not a privyseal record")
)

func slotOf(seq uint64) int { return int(seq % 2) }

// same reports whether r and s are one record, as a state, a companion or the
// host knows it.
func (r *record) same(s *record) bool {
	return r.seq == s.seq && r.stamp == s.stamp && r.id == s.id && r.exported == s.exported &&
		r.binding == s.binding && r.companion == s.companion && r.mark.Equal(s.mark)
}

// check returns why r cannot be encoded.
func (r *record) check() error {
	if r.seq == 0 {
		return errors.New("the number is 0")
	}
	return cmp.Or(r.id.Check(), r.mark.Check(MaxSignBytes))
}

// encodeSlot writes r, which has passed check, to both sectors of slot.
func (r *record) encodeSlot(slot *[slotSize]byte, macKey []byte) {
	first := (*[recordSize]byte)(slot[:])
	r.encode(first, macKey)
	copy(slot[recordSize:], first[:])
}

// encode writes r, which has passed check, to sector.
func (r *record) encode(sector *[recordSize]byte, macKey []byte) {
	b := sector[:]
	clear(b)
	copy(b, magic)
	b[15] = version
	if r.exported {
		b[16] |= flagExported
	}
	if r.mac {
		b[16] |= flagMAC
	}
	if r.closed {
		b[16] |= flagClosed
	}
	if r.shared {
		b[16] |= flagShared
	}
	b[17] = byte(r.mark.Step)
	binary.BigEndian.PutUint16(b[18:], uint16(len(r.mark.SignBytes)))
	binary.BigEndian.PutUint32(b[20:], uint32(r.mark.Round))
	binary.BigEndian.PutUint64(b[24:], r.seq)
	binary.BigEndian.PutUint64(b[32:], uint64(r.time))
	binary.BigEndian.PutUint64(b[40:], uint64(r.mark.Height))
	b[48] = byte(len(r.id.ChainID))
	copy(b[chainOffset:], r.id.ChainID)
	copy(b[100:], r.id.Key[:])
	copy(b[132:], r.binding.machine[:])
	copy(b[148:], r.binding.file[:])
	copy(b[164:], r.companion[:])
	binary.BigEndian.PutUint64(b[180:], uint64(r.stamp))
	binary.BigEndian.PutUint64(b[188:], uint64(r.seen))
	binary.BigEndian.PutUint64(b[196:], r.binding.inode)
	copy(b[bytesOffset:], r.mark.SignBytes)
	sum := checksum(b[:sumOffset], r.mac, macKey)
	copy(b[sumOffset:], sum[:])
}

func checksum(body []byte, mac bool, macKey []byte) [sha256.Size]byte {
	if !mac {
		return sha256.Sum256(body)
	}
	h := hmac.New(sha256.New, macKey)
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}

// decode reads the record in a sector, which has recordSize bytes. What it accepts
// of version 2 encodes to the same bytes. The error wraps errBad or errAlien.
func decode(sector, macKey []byte) (record, error) {
	alien := func(format string, args ...any) (record, error) {
		return record{}, fmt.Errorf("%w: "+format, append([]any{errAlien}, args...)...)
	}
	b := sector
	if string(b[:15]) != magic {
		return record{}, errBad
	}
	r := record{exported: b[16]&flagExported != 0, mac: b[16]&flagMAC != 0, closed: b[16]&flagClosed != 0, shared: b[16]&flagShared != 0, old: b[15] == version1}
	if r.mac && len(macKey) == 0 {
		return alien("it has a MAC, but no MAC key was given")
	}
	// Before anything else is judged: one flipped bit must not look like a record
	// that somebody has written.
	if sum := checksum(b[:sumOffset], r.mac, macKey); !hmac.Equal(sum[:], b[sumOffset:]) {
		return record{}, errBad
	}
	chainLen, bytesLen := int(b[48]), int(binary.BigEndian.Uint16(b[18:]))
	round := binary.BigEndian.Uint32(b[20:])
	height := binary.BigEndian.Uint64(b[40:])
	switch {
	case b[15] != version && !r.old:
		return alien("format %q, this program knows %q", b[15], version)
	case !r.mac && len(macKey) > 0:
		return alien("it has no MAC, but a MAC key was given")
	case chainLen > chainSize || bytesLen > MaxSignBytes || round > math.MaxInt32 || height > math.MaxInt64:
		return alien("a length or number is out of range")
	}
	r.seq = binary.BigEndian.Uint64(b[24:])
	r.time = int64(binary.BigEndian.Uint64(b[32:]))
	r.id = watermark.ID{ChainID: string(b[chainOffset : chainOffset+chainLen]), Key: [32]byte(b[100:132])}
	r.mark = watermark.Mark{Height: int64(height), Round: int32(round), Step: watermark.Step(b[17])}
	if bytesLen > 0 {
		r.mark.SignBytes = bytes.Clone(b[bytesOffset : bytesOffset+bytesLen])
	}
	if err := r.check(); err != nil {
		return alien("%v", err)
	}
	if r.old {
		return r, nil
	}
	r.binding = binding{machine: [16]byte(b[132:148]), file: fileID(b[148:164]), inode: binary.BigEndian.Uint64(b[196:])}
	r.companion, r.stamp = fileID(b[164:180]), int64(binary.BigEndian.Uint64(b[180:]))
	r.seen = int64(binary.BigEndian.Uint64(b[188:]))
	var again [recordSize]byte
	r.encode(&again, macKey)
	if !bytes.Equal(again[:], b) {
		return alien("unknown flags, or bytes where zeros belong")
	}
	return r, nil
}
