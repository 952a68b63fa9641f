package filestore

import (
	"errors"
	"strings"
	"testing"

	"privyseal/internal/watermark"
)

// Every kind of pair of slots, and what becomes of it.
func TestJudge(t *testing.T) {
	with := func(r record, change func(*record)) []byte {
		change(&r)
		return encoded(r, nil)
	}
	rec := func(seq uint64, height int64) []byte { return encoded(sample(seq, height), nil) }
	torn := append(rec(6, 6)[:300:300], rec(4, 4)[300:]...)
	zeros := make([]byte, slotSize)
	alien := rec(6, 6)
	alien[15] = '2'
	otherChain := func(r *record) { r.id.ChainID = "chain-2" }
	elsewhere := func(r *record) { r.binding.machine[5]++ }
	dead := func(r *record) { r.exported = true }

	tests := []struct {
		name     string
		even     []byte // slot 0
		odd      []byte // slot 1
		seq      uint64 // that rules
		torn     bool
		damage   string // part of the error
		exported bool
	}{
		{name: "newly made", odd: rec(1, 0), even: rec(2, 0), seq: 2},
		{name: "even rules", even: rec(6, 6), odd: rec(5, 5), seq: 6},
		{name: "odd rules", even: rec(6, 6), odd: rec(7, 7), seq: 7},
		{name: "the newer one is torn", even: torn, odd: rec(5, 5), seq: 5, torn: true},
		{name: "the older one is torn", even: torn, odd: rec(7, 7), seq: 7, torn: true},
		{name: "one is zeros", even: zeros, odd: rec(7, 7), seq: 7, torn: true},
		{name: "both are torn", even: torn, odd: torn, damage: "both records have a bad checksum"},
		{name: "both are zeros", even: zeros, odd: zeros, damage: "both records have a bad checksum"},
		{name: "one of a later format", even: alien, odd: rec(5, 5), damage: "slot 0: not a record of ours: format"},
		{name: "swapped", even: rec(5, 5), odd: rec(6, 6), damage: "record 5 stands in slot 0"},
		{name: "the same twice", even: rec(6, 6), odd: rec(6, 6), damage: "record 6 stands in slot 1"},
		{name: "torn beside misplaced", even: rec(5, 5), odd: torn, damage: "record 5 stands in slot 0"},
		{name: "a lost write", even: rec(6, 6), odd: rec(9, 9), damage: "no neighbours"},
		{name: "a lost write, the other way", even: rec(6, 6), odd: rec(3, 3), damage: "no neighbours"},
		{name: "two chains", even: with(sample(6, 6), otherChain), odd: rec(5, 5), damage: "two chains or keys"},
		{name: "going back", even: rec(6, 4), odd: rec(5, 5), damage: "record 6 is at 4/2/prevote, below record 5 at 5/2/prevote"},
		{name: "the same mark twice", even: rec(6, 5), odd: rec(5, 5), seq: 6},
		{name: "adopted half-way", even: rec(6, 5), odd: with(sample(5, 5), elsewhere), seq: 6},
		{name: "exported half-way", even: with(sample(6, 5), dead), odd: rec(5, 5), seq: 6, exported: true},
		{name: "revived half-way", even: rec(6, 5), odd: with(sample(5, 5), dead), seq: 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slots := [2][slotSize]byte{[slotSize]byte(tt.even), [slotSize]byte(tt.odd)}
			cur, torn, err := judge(&slots, nil)
			if tt.damage != "" {
				var f *fault
				if !errors.As(err, &f) || f.err != ErrDamaged || !strings.Contains(f.detail, tt.damage) {
					t.Fatalf("got record %d and %+v", cur.seq, err)
				}
				return
			}
			if err != nil || cur.seq != tt.seq || torn != tt.torn || cur.exported != tt.exported {
				t.Fatalf("got record %d, torn %t, exported %t, %v", cur.seq, torn, cur.exported, err)
			}
		})
	}
}

func TestAccept(t *testing.T) {
	here := sample(1, 1).binding
	tests := []struct {
		name   string
		change func(*record)
		want   error
	}{
		{"ours", func(*record) {}, nil},
		{"other chain", func(r *record) { r.id.ChainID = "chain-2" }, ErrForeign},
		{"other key", func(r *record) { r.id.Key[7]++ }, ErrForeign},
		{"exported", func(r *record) { r.exported = true }, ErrExported},
		{"other machine", func(r *record) { r.binding.machine[31]++ }, ErrCopied},
		{"other file", func(r *record) { r.binding.file[0]++ }, ErrCopied},
		{"other inode", func(r *record) { r.binding.inode++ }, ErrCopied},
		{"foreign and copied", func(r *record) { r.id.Key[0]++; r.binding.inode++ }, ErrForeign},
		{"exported and copied", func(r *record) { r.exported = true; r.binding.inode++ }, ErrExported},
	}
	c := Config{ID: watermark.ID{ChainID: "chain-1", Key: testID.Key}}
	for _, tt := range tests {
		r := sample(1, 1)
		tt.change(&r)
		if err := c.accept(&r, here); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
