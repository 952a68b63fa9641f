package filestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/watermark"
)

var testID = watermark.ID{ChainID: "chain-1", Key: [32]byte{0: 0xaa, 31: 0xbb}}

// sample returns record seq at the given height.
func sample(seq uint64, height int64) record {
	return record{
		seq:       seq,
		time:      1_700_000_000_123_456_789,
		id:        testID,
		mark:      watermark.Mark{Height: height, Round: 2, Step: watermark.StepPrevote, SignBytes: []byte("sign bytes")},
		stamp:     1_700_000_001_123_456_789,
		binding:   binding{machine: [16]byte{1}, file: fileID{2}, inode: 3},
		companion: fileID{4},
	}
}

// encoded returns one copy of a record.
func encoded(r record, macKey []byte) []byte {
	var sector [recordSize]byte
	r.mac = len(macKey) > 0
	r.encode(&sector, macKey)
	return sector[:]
}

// The bytes on disk, spelled out: a change here is a new version of the format.
func TestRecordBytes(t *testing.T) {
	r := sample(0x0102030405060708, 0x1112131415161718)
	r.exported = true
	want := "70726976797365616c2d6d61726b2f32" + // privyseal-mark/2
		"01" + "02" + "000a" + "00000002" + "0102030405060708" + "17979cfe3d85cd15" + "1112131415161718" +
		"07" + hex.EncodeToString([]byte("chain-1")) + strings.Repeat("00", 43) + "00" +
		"aa" + strings.Repeat("00", 30) + "bb" +
		"01" + strings.Repeat("00", 15) + // machine
		"02" + strings.Repeat("00", 15) + // file
		"04" + strings.Repeat("00", 15) + // companion
		"17979cfe79209715" + "0000000000000000" +
		"0000000000000003" +
		hex.EncodeToString([]byte("sign bytes")) + strings.Repeat("00", 266)
	body, err := hex.DecodeString(want)
	if err != nil || len(body) != 480 {
		t.Fatalf("the vector has %d bytes: %v", len(body), err)
	}
	sum := sha256.Sum256(body)
	if diff := cmp.Diff(append(body, sum[:]...), encoded(r, nil)); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// resealed returns b with a checksum that is right.
func resealed(b []byte) []byte {
	sum := sha256.Sum256(b[:sumOffset])
	copy(b[sumOffset:], sum[:])
	return b
}

func TestRecordRoundTrip(t *testing.T) {
	records := map[string]func(*record){
		"sample":          func(r *record) {},
		"zero mark":       func(r *record) { r.mark = watermark.Mark{} },
		"floor":           func(r *record) { r.mark = watermark.Floor(math.MaxInt64) },
		"longest":         func(r *record) { r.mark.SignBytes = bytes.Repeat([]byte{0xff}, MaxSignBytes) },
		"longest chain":   func(r *record) { r.id.ChainID = strings.Repeat("c", 50) },
		"zeros in chain":  func(r *record) { r.id.ChainID = "a\x00" },
		"before 1970":     func(r *record) { r.time = -1 },
		"exported":        func(r *record) { r.exported = true },
		"closed":          func(r *record) { r.closed = true },
		"no machine":      func(r *record) { r.binding.machine = [16]byte{} },
		"greatest number": func(r *record) { r.seq = math.MaxUint64 },
	}
	for name, change := range records {
		for _, macKey := range [][]byte{nil, []byte("secret")} {
			want := sample(1, 1)
			change(&want)
			want.mac = macKey != nil
			got, err := decode(encoded(want, macKey), macKey)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{}, binding{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// A bit that flips is a bad record or, for one flag, an alien one, and never another record.
func TestRecordEveryBitCounts(t *testing.T) {
	for _, macKey := range [][]byte{nil, []byte("secret")} {
		good := encoded(sample(1, 1), macKey)
		for bit := range len(good) * 8 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if r, err := decode(bad, macKey); !errors.Is(err, errBad) && !errors.Is(err, errAlien) {
				t.Fatalf("bit %d flipped: %+v, %v", bit, r, err)
			}
		}
	}
}

// Records whose checksum is right and that are not ours.
func TestRecordAlien(t *testing.T) {
	sealed := func(change func(b []byte)) []byte {
		b := encoded(sample(1, 1), nil)
		change(b)
		return resealed(b)
	}
	tests := map[string][]byte{
		"next format":        sealed(func(b []byte) { b[15] = '3' }),
		"unknown flag":       sealed(func(b []byte) { b[16] |= 16 }),
		"flag of a MAC":      sealed(func(b []byte) { b[16] |= flagMAC }),
		"step 4":             sealed(func(b []byte) { b[17] = 4 }),
		"bytes of no step":   sealed(func(b []byte) { b[17] = 0 }),
		"too many bytes":     sealed(func(b []byte) { b[18], b[19] = 0x01, 0x15 }),
		"negative round":     sealed(func(b []byte) { b[20] = 0x80 }),
		"number 0":           sealed(func(b []byte) { b[31] = 0 }),
		"negative height":    sealed(func(b []byte) { b[40] = 0x80 }),
		"no chain id":        sealed(func(b []byte) { b[48] = 0 }),
		"long chain id":      sealed(func(b []byte) { b[48] = 51 }),
		"chain id cut":       sealed(func(b []byte) { b[48] = 6 }),
		"byte after chain":   sealed(func(b []byte) { b[99] = 1 }),
		"byte after signs":   sealed(func(b []byte) { b[479] = 1 }),
		"sign bytes cut":     sealed(func(b []byte) { b[19] = 9 }),
		"made without a key": nil,
	}
	for name, slot := range tests {
		var macKey []byte
		if slot == nil {
			slot, macKey = encoded(sample(1, 1), nil), []byte("secret")
		}
		if r, err := decode(slot, macKey); !errors.Is(err, errAlien) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := decode(encoded(sample(1, 1), []byte("secret")), []byte("other")); !errors.Is(err, errBad) {
		t.Errorf("another key of the MAC: %v", err)
	}
}

// FuzzRecord: what decode accepts encodes to the same bytes. The checksum is
// made right, or the fuzzer would never get past it.
func FuzzRecord(f *testing.F) {
	f.Add(encoded(sample(1, 1), nil)[:sumOffset], []byte(nil))
	f.Add(encoded(sample(7, math.MaxInt64), []byte("k"))[:sumOffset], []byte("k"))
	exported := sample(2, 0)
	exported.mark, exported.exported = watermark.Mark{}, true
	f.Add(encoded(exported, nil)[:sumOffset], []byte(nil))
	f.Add([]byte("privyseal-mark/1"), []byte(nil))
	f.Add([]byte("privyseal-mark/3"), []byte(nil))
	f.Add([]byte{}, []byte("k"))
	f.Fuzz(func(t *testing.T, body, macKey []byte) {
		var slot [recordSize]byte
		copy(slot[:sumOffset], body)
		sum := checksum(slot[:sumOffset], slot[16]&flagMAC != 0, macKey)
		copy(slot[sumOffset:], sum[:])
		r, err := decode(slot[:], macKey)
		if err != nil {
			return
		}
		if err := r.check(); err != nil {
			t.Fatalf("decoded what cannot be encoded: %v", err)
		}
		if r.old {
			return // read, never written
		}
		var again [recordSize]byte
		r.encode(&again, macKey)
		if again != slot {
			t.Fatalf("decoded %x, encoded %x", slot, again)
		}
	})
}
