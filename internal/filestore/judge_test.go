package filestore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

// Every kind of pair of slots, and what becomes of it.
func TestJudge(t *testing.T) {
	with := func(r record, change func(*record)) []byte {
		change(&r)
		return encoded(r, nil)
	}
	rec := func(seq uint64, height int64) []byte { return encoded(sample(seq, height), nil) }
	bad := append(rec(6, 6)[:300:300], rec(4, 4)[300:]...)
	zeros := make([]byte, recordSize)
	alien := rec(6, 6)
	alien[15] = '3'
	alien = resealed(alien)
	old := append([]byte(nil), rec(6, 6)...)
	old[15] = version1
	old = resealed(old)
	otherChain := func(r *record) { r.id.ChainID = "chain-2" }
	elsewhere := func(r *record) { r.binding.machine[5]++ }
	dead := func(r *record) { r.exported = true }
	closed := func(r *record) { r.closed = true }
	twice := func(b []byte) [2][]byte { return [2][]byte{b, b} }

	tests := []struct {
		name     string
		even     [2][]byte // slot 0
		odd      [2][]byte // slot 1
		seq      uint64    // that rules
		flawed   bool
		damage   string // part of the error
		restored string // part of the error, beside a record
		exported bool
	}{
		{name: "newly made", odd: twice(rec(1, 0)), even: twice(rec(2, 0)), seq: 2},
		{name: "even rules", even: twice(rec(6, 6)), odd: twice(rec(5, 5)), seq: 6},
		{name: "odd rules", even: twice(rec(6, 6)), odd: twice(rec(7, 7)), seq: 7},
		{name: "a write cut off after its first copy", even: [2][]byte{rec(6, 6), rec(4, 4)}, odd: twice(rec(5, 5)), seq: 6},
		{name: "a write that reached its second copy only", even: [2][]byte{rec(4, 4), rec(6, 6)}, odd: twice(rec(5, 5)), seq: 6},
		{name: "first copy of the newer one is bad", even: [2][]byte{bad, rec(6, 6)}, odd: twice(rec(5, 5)), seq: 6, flawed: true},
		{name: "second copy of the newer one is bad", even: [2][]byte{rec(6, 6), bad}, odd: twice(rec(5, 5)), seq: 6, flawed: true},
		{name: "a copy of the older one is zeros", even: [2][]byte{zeros, rec(6, 6)}, odd: twice(rec(7, 7)), seq: 7, flawed: true},
		{name: "a copy is of a later format", even: [2][]byte{alien, rec(6, 6)}, odd: twice(rec(7, 7)), seq: 7, flawed: true},
		{name: "the newer one is bad", even: twice(bad), odd: twice(rec(5, 5)), damage: "both copies of the record in slot 0 have a bad checksum"},
		{name: "the older one is bad", even: twice(bad), odd: twice(rec(7, 7)), damage: "both copies of the record in slot 0 have a bad checksum"},
		{name: "all is zeros", even: twice(zeros), odd: twice(zeros), damage: "both copies"},
		{name: "one of a later format", even: twice(alien), odd: twice(rec(5, 5)), damage: "slot 0: not a privyseal record: format"},
		{name: "a companion's", even: twice(with(sample(6, 6), closed)), odd: twice(rec(5, 5)), damage: "slot 0 holds what belongs in the file beside it"},
		{name: "what a start has announced", even: twice(with(sample(6, 6), func(r *record) { r.seen = 1 })), odd: twice(rec(5, 5)), damage: "slot 0 holds what belongs in the file beside it"},
		{name: "swapped", even: twice(rec(5, 5)), odd: twice(rec(6, 6)), damage: "record 5 is in slot 0"},
		{name: "the same twice", even: twice(rec(6, 6)), odd: twice(rec(6, 6)), damage: "record 6 is in slot 1"},
		{name: "two chains", even: twice(with(sample(6, 6), otherChain)), odd: twice(rec(5, 5)), damage: "two chains or keys"},
		{name: "going back", even: twice(rec(6, 4)), odd: twice(rec(5, 5)), damage: "record 6 is at 4/2/prevote, below record 5 at 5/2/prevote"},
		{name: "old bytes over the older slot", even: twice(rec(6, 6)), odd: twice(rec(9, 9)), seq: 9, restored: "records 6 and 9 do not follow"},
		{name: "old bytes over the newer slot", even: twice(rec(6, 6)), odd: twice(rec(3, 3)), seq: 6, restored: "records 3 and 6 do not follow"},
		{name: "an earlier version", even: [2][]byte{old, zeros}, odd: twice(rec(5, 5)), seq: 6, restored: "format is that of an earlier version"},
		{name: "the same mark twice", even: twice(rec(6, 5)), odd: twice(rec(5, 5)), seq: 6},
		{name: "adopted half-way", even: twice(rec(6, 5)), odd: twice(with(sample(5, 5), elsewhere)), seq: 6},
		{name: "exported half-way", even: twice(with(sample(6, 5), dead)), odd: twice(rec(5, 5)), seq: 6, exported: true},
		{name: "revived half-way", even: twice(rec(6, 5)), odd: twice(with(sample(5, 5), dead)), seq: 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var slots [2][slotSize]byte
			for i, pair := range [2][2][]byte{tt.even, tt.odd} {
				copy(slots[i][:], pair[0])
				copy(slots[i][recordSize:], pair[1])
			}
			cur, flawed, err := judge(&slots, nil)
			if want := tt.damage + tt.restored; want != "" {
				var f *fault
				reason := map[bool]error{true: ErrDamaged, false: ErrRestored}[tt.damage != ""]
				if !errors.As(err, &f) || f.err != reason || !strings.Contains(f.detail, want) || cur.seq != tt.seq {
					t.Fatalf("got record %d and %+v", cur.seq, err)
				}
				return
			}
			if err != nil || cur.seq != tt.seq || flawed != tt.flawed || cur.exported != tt.exported {
				t.Fatalf("got record %d, flawed %t, exported %t, %v", cur.seq, flawed, cur.exported, err)
			}
		})
	}
}

// What is around a record, and whether it is taken for the last one.
func TestSurroundings(t *testing.T) {
	r := sample(9, 5)
	written := r.stamp
	second := time.Second.Nanoseconds()
	with := func(change func(k *record)) *record {
		k := r
		change(&k)
		return &k
	}
	elsewhere := func(height int64) *record {
		return with(func(k *record) { k.binding.file[0]++; k.seq = 2; k.mark.Height = height })
	}
	beside := func(last *record) []companion { return []companion{{r.companion, last}} }
	opened := with(func(k *record) { k.seq = 3; k.mark.Height = 2 })
	announced := with(func(k *record) { k.seen = written + 60*second })
	closed := with(func(k *record) { k.closed = true })
	other := companion{id: fileID{5}}
	tests := []struct {
		name string
		s    surroundings
		want string // part of the error; "" is none
	}{
		{"running, or killed", surroundings{companions: beside(opened), mtime: written, ctime: written}, ""},
		{"after a power cut that lost the times", surroundings{companions: beside(opened), mtime: written - 60*second, ctime: written - 60*second}, ""},
		{"a clock of other ticks", surroundings{companions: beside(opened), mtime: written + second, ctime: written + second}, ""},
		{"killed, then written to", surroundings{companions: beside(opened), mtime: written + 3*second, ctime: written + 3*second}, "something wrote to it"},
		{"killed, then written to by who keeps times", surroundings{companions: beside(opened), mtime: written, ctime: written + 3*second}, "something changed it"},
		{"killed, then chown, and the host remembers", surroundings{companions: beside(opened), host: []record{r}, mtime: written, ctime: written + 9*second}, ""},
		{"stopped, then chown", surroundings{companions: beside(closed), mtime: written, ctime: written + 9*second}, ""},
		{"stopped, then touched", surroundings{companions: beside(closed), mtime: written + 9*second, ctime: written + 9*second}, ""},
		{"an old one over one that was stopped", surroundings{companions: beside(with(func(k *record) { k.seq, k.closed = 10, true }))}, "the file beside it knows record 10"},
		{"an old one of the same number", surroundings{companions: beside(with(func(k *record) { k.stamp++; k.closed = true }))}, "the file beside it knows record 9"},
		{"an old one of an earlier start", surroundings{companions: []companion{{fileID{5}, opened}}, mtime: written, ctime: written}, "before the last start"},
		{"in the middle of a start", surroundings{companions: []companion{{fileID{5}, opened}, {r.companion, opened}}}, ""},
		{"the companion is missing", surroundings{}, "….gen, is missing"},
		{"the companion is not legible", surroundings{companions: beside(nil)}, ""},
		{"a companion of another chain", surroundings{companions: beside(with(func(k *record) { k.id.ChainID = "x"; k.seq = 99 }))}, ""},
		{"the host knows more", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.seq++ })}}, "this host knows record 10"},
		{"the host knows another record 9", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.mark.SignBytes = nil })}}, "this host knows record 9"},
		{"one folder of the host knows more", surroundings{companions: beside(closed), host: []record{r, *with(func(k *record) { k.seq++ })}}, "this host knows record 10"},
		{"killed before the host heard of it", surroundings{companions: beside(opened), host: []record{*with(func(k *record) { k.seq-- })}, mtime: written, ctime: written}, ""},
		{"the host knows an older record, and the file was written to", surroundings{companions: beside(opened), host: []record{*with(func(k *record) { k.seq-- })}, mtime: written + 9*second}, "something wrote to it"},
		{"stopped before, then killed and written to", surroundings{companions: beside(with(func(k *record) { k.seq, k.closed = 3, true })), mtime: written + 9*second}, "something wrote to it"},
		{"stopped, and started by who lost the name of a new companion", surroundings{companions: []companion{{r.companion, closed}, other}, mtime: written + 9*second}, "something wrote to it"},
		{"the host is enough", surroundings{companions: []companion{other}, host: []record{r}, mtime: written + 9*second}, ""},
		{"in a start that said so", surroundings{companions: beside(announced), mtime: written + 65*second, ctime: written + 65*second}, ""},
		{"in a start that lost the record which it had found", surroundings{companions: beside(with(func(k *record) { k.seq, k.stamp, k.seen = 10, k.stamp+second, written+60*second })), mtime: written + 65*second}, ""},
		{"long after such a start", surroundings{companions: beside(announced), mtime: written + 71*second}, "something wrote to it"},
		{"long after such a start, by who keeps times", surroundings{companions: beside(announced), ctime: written + 71*second}, "something changed it"},
		{"after a start that found another record", surroundings{companions: beside(with(func(k *record) { k.seq, k.seen = 7, written+60*second })), mtime: written + 65*second}, "something wrote to it"},
		{"after a start of another key", surroundings{companions: beside(with(func(k *record) { k.id.Key[0]++; k.seen = written + 60*second })), mtime: written + 65*second}, "something wrote to it"},
		{"another home exported the same", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.exported = true })}}, "this host has exported that with another file"},
		{"another home exported less", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.exported, k.mark.Height = true, 4 })}}, ""},
		{"another home signed lower", surroundings{companions: beside(closed), host: []record{*elsewhere(4)}}, ""},
		{"another home signed the same", surroundings{companions: beside(closed), host: []record{*elsewhere(5)}}, ""},
		{"another home signed higher", surroundings{companions: beside(closed), host: []record{*elsewhere(6)}}, "this host has signed up to 6/2/prevote with this key, with another file"},
		{"another home signed another block", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.mark.SignBytes = []byte("B") })}}, "with another file"},
		{"another home, that is known", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.mark.Height++; k.path = "/home/o ther/state" })}}, "with '/home/o ther/state', on "},
		{"a lower one that hosts share", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.shared = true; k.mark.Height--; k.stamp++ })}}, "since it was written this host has shared the state"},
		{"one that hosts have shared before", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.shared = true })}}, ""},
		{"one that hosts shared until it moved here", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.shared, k.exported = true, true; k.stamp-- })}}, ""},
		{"one that hosts shared until it moved elsewhere", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.shared, k.exported = true, true; k.stamp++ })}}, "this host has exported that"},
		{"a lower one that hosts have shared, and that has ended", surroundings{companions: beside(closed), host: []record{*with(func(k *record) { k.binding.inode++; k.shared, k.exported = true, true; k.mark.Height--; k.stamp++ })}}, ""},
	}
	for _, tt := range tests {
		err := tt.s.judge(&r)
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", tt.name, err.(*fault).detail)
		}
		var f *fault
		if tt.want != "" && (!errors.As(err, &f) || f.err != ErrRestored || !strings.Contains(f.detail, tt.want)) {
			t.Errorf("%s: %+v, want %q", tt.name, err, tt.want)
		}
	}
}

// A state that has ended is what it is, whatever another one has signed since; of itself it may
// be an older one.
func TestEndedIsNotOlder(t *testing.T) {
	r := sample(9, 5)
	r.exported = true
	other := r
	other.binding.inode++
	other.exported, other.mark.Height = false, 6
	at := surroundings{companions: []companion{{id: r.companion}}, host: []record{other}}
	if err := at.judge(&r); err != nil {
		t.Error(err)
	}
	at.host[0] = r
	at.host[0].seq++
	if err := at.judge(&r); !errors.Is(err, ErrRestored) {
		t.Errorf("an older one of its own: %v", err)
	}
}

// Adopting takes the highest mark that is known, no block where there are two, and no
// state that the newest record says is dead.
func TestNewest(t *testing.T) {
	r := sample(9, 5)
	with := func(change func(k *record)) record {
		k := r
		change(&k)
		return k
	}
	floor := with(func(k *record) { k.mark.SignBytes = nil })
	for name, tt := range map[string]struct {
		known, want record
	}{
		"a higher mark":                  {with(func(k *record) { k.seq, k.mark.Height = 12, 6 }), with(func(k *record) { k.seq, k.mark.Height = 12, 6 })},
		"a lower mark":                   {with(func(k *record) { k.seq, k.mark.Height = 3, 4 }), r},
		"the same":                       {r, r},
		"another block":                  {with(func(k *record) { k.mark.SignBytes = []byte("B") }), floor},
		"a tombstone":                    {with(func(k *record) { k.seq, k.exported = 10, true }), with(func(k *record) { k.seq, k.exported = 10, true })},
		"a tombstone of another file":    {with(func(k *record) { k.seq, k.exported = 10, true; k.binding.inode++ }), with(func(k *record) { k.exported = true })},
		"an older one of another file":   {with(func(k *record) { k.exported, k.mark.Height = true, 4; k.binding.inode++ }), r},
		"a higher one of another file":   {with(func(k *record) { k.exported, k.mark.Height = true, 6; k.binding.inode++ }), with(func(k *record) { k.exported, k.mark.Height = true, 6 })},
		"a higher mark of another chain": {with(func(k *record) { k.exported, k.mark.Height = true, 6; k.id.ChainID = "x"; k.binding.inode++ }), r},
		"another chain":                  {with(func(k *record) { k.seq, k.mark.Height = 12, 6; k.id.ChainID = "x" }), r},
	} {
		for _, s := range []surroundings{{host: []record{tt.known}}, {companions: []companion{{last: &tt.known}}}} {
			if got := s.newest(r); !got.same(&tt.want) {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

// Where an inode is used again, its number does not distinguish the two files.
func TestCopiedSaysWhich(t *testing.T) {
	here := sample(1, 1).binding
	for want, change := range map[string]func(*record){
		"it was made as another file, whose inode": func(r *record) { r.binding.file[0]++ },
		"it was made as inode":                     func(r *record) { r.binding.file[0]++; r.binding.inode++ },
	} {
		r := sample(1, 1)
		change(&r)
		err := bound(&r, here)
		if f, _ := errors.AsType[*fault](err); f == nil || !errors.Is(err, ErrCopied) || !strings.Contains(f.detail, want) {
			t.Errorf("%v, want %q", err, want)
		}
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
		{"other machine", func(r *record) { r.binding.machine[15]++ }, ErrCopied},
		{"other file", func(r *record) { r.binding.file[0]++ }, ErrCopied},
		{"other inode", func(r *record) { r.binding.inode++ }, ErrCopied},
		{"foreign and copied", func(r *record) { r.id.Key[0]++; r.binding.inode++ }, ErrForeign},
		{"exported and copied", func(r *record) { r.exported = true; r.binding.inode++ }, ErrExported},
	}
	c := Config{ID: watermark.ID{ChainID: "chain-1", Key: testID.Key}}
	for _, tt := range tests {
		r := sample(1, 1)
		tt.change(&r)
		around := surroundings{here: here, host: []record{r}}
		if err := c.accept(&r, &around); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
