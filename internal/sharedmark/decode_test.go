package sharedmark

import (
	"bytes"
	"errors"
	"testing"

	"privyseal/internal/watermark"
)

func testRecord() record {
	return record{
		id: watermark.ID{ChainID: "chain-1", Key: [32]byte{1}}, seq: 7, time: 5, lineage: [16]byte{1}, nonce: [16]byte{2}, writer: writer{[8]byte{3}, [8]byte{4}},
		mark: watermark.Mark{Height: 9, Round: 1, Step: watermark.StepPrevote, SignBytes: []byte("bytes")},
	}
}

// Each bit of a value counts.
func TestRecordBits(t *testing.T) {
	mac := &[32]byte{7}
	for _, key := range []*[32]byte{nil, mac} {
		r := testRecord()
		r.mac = key != nil
		value := r.encode(key)
		got, err := decode(value, key)
		if err != nil || !bytes.Equal(got.encode(key), value) {
			t.Fatalf("%+v, %v", got, err)
		}
		for bit := range len(value) * 8 {
			value[bit/8] ^= 1 << (bit % 8)
			if _, err := decode(value, key); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
				t.Errorf("bit %d: %v", bit, err)
			}
			value[bit/8] ^= 1 << (bit % 8)
		}
		other := mac
		if key != nil {
			other = nil
		}
		if r, err := decode(value, other); !errors.Is(err, ErrForeign) || r.seq != 7 {
			t.Errorf("with a MAC where there is none, or none where there is one: %v", err)
		}
	}
	r := testRecord()
	r.mac = true
	if _, err := decode(r.encode(mac), &[32]byte{8}); !errors.Is(err, ErrDamaged) {
		t.Errorf("with another key: %v", err)
	}
}

// A record whose checksum is right, and that this program would not have written.
func TestRecordFormat(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		want   error
	}{
		"as it is":          {func(b []byte) []byte { return b }, nil},
		"magic":             {func(b []byte) []byte { b[0]++; return b }, ErrForeign},
		"version":           {func(b []byte) []byte { b[17]++; return b }, ErrForeign},
		"flag":              {func(b []byte) []byte { b[18] |= 4; return b }, ErrDamaged},
		"step":              {func(b []byte) []byte { b[19] = 4; return b }, ErrDamaged},
		"round":             {func(b []byte) []byte { b[20] |= 0x80; return b }, ErrDamaged},
		"height":            {func(b []byte) []byte { b[24] |= 0x80; return b }, ErrDamaged},
		"sequence":          {func(b []byte) []byte { clear(b[32:40]); return b }, ErrDamaged},
		"no chain id":       {func(b []byte) []byte { b[128] = 0; return b }, ErrDamaged},
		"a long chain id":   {func(b []byte) []byte { b[128] = 200; return b }, ErrDamaged},
		"without its end":   {func(b []byte) []byte { return b[:recordHead] }, ErrForeign},
		"more than we read": {func(b []byte) []byte { return append(b, make([]byte, maxRecord)...) }, ErrForeign},
	} {
		r := testRecord()
		value := r.encode(nil)
		body := tt.change(value[: len(value)-sumSize : len(value)-sumSize])
		sum := checksum(body, false, nil)
		if _, err := decode(append(body, sum[:]...), nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	r := testRecord()
	f.Add(r.encode(nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, value []byte) {
		// The checksum is made right: what matters is what comes before it.
		if len(value) > sumSize {
			body := value[:len(value)-sumSize]
			sum := checksum(body, false, nil)
			value = append(bytes.Clone(body), sum[:]...)
		}
		r, err := decode(value, nil)
		if err == nil && !bytes.Equal(r.encode(nil), value) {
			t.Fatalf("%x is accepted, and encodes to something else", value)
		}
	})
}

// A floor of another format, or with what no floor has, is not read as one.
func TestFloorFormat(t *testing.T) {
	good := floor{writer: [8]byte{1}, seq: 3, mark: watermark.Mark{Height: 4}, position: Position{Index: 5, Members: []uint64{1, 2}}}
	read := func(m watermark.Mark, change func(b []byte)) error {
		m.SignBytes = good.encode()
		change(m.SignBytes)
		_, err := decodeFloor(m)
		return err
	}
	at := watermark.Mark{Height: 1, Step: watermark.StepPrecommit}
	if err := read(at, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte){
		"format": func(b []byte) { b[0]++ }, "flag": func(b []byte) { b[1] |= 8 }, "no place": func(b []byte) { b[1] |= flagPlace }, "writer": func(b []byte) { clear(b[2:10]) },
		"height": func(b []byte) { b[90] |= 0x80 }, "round": func(b []byte) { b[98] |= 0x80 }, "step": func(b []byte) { b[102] = 4 },
	} {
		if err := read(at, change); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, m := range []watermark.Mark{{Height: 1, Step: watermark.StepPrevote}, {Height: 1, Round: 1, Step: watermark.StepPrecommit}} {
		if err := read(m, func([]byte) {}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v: %v", m, err)
		}
	}
}

func FuzzFloor(f *testing.F) {
	seen := floor{writer: [8]byte{1}, seq: 3, mark: watermark.Mark{Height: 4}, position: Position{Index: 5, Members: []uint64{1, 2}}}
	f.Add(seen.encode())
	seen.position.Place = [8]byte{1}
	f.Add(seen.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeFloor(watermark.Mark{Height: 1, Step: watermark.StepPrecommit, SignBytes: b})
		if err == nil && !bytes.Equal(got.encode(), b) {
			t.Fatalf("%x is accepted, and encodes to something else", b)
		}
	})
}
