package cases

import (
	"encoding/binary"
	"slices"
)

// raw adds payloads byte for byte: what proto3 allows but CometBFT's encoder
// never writes (fields left out that it always writes, other orders, unknown
// fields), and what is broken.
func (l *list) raw() {
	ts := cat(num(1, 1_790_000_000), num(2, 5))
	id := cat(str(1, sum("block")), str(2, cat(num(1, 1), str(2, sum("parts")))))
	vote := func(parts ...[]byte) []byte {
		return str(3, cat(str(1, cat(parts...)), str(2, []byte(chain))))
	}
	prop := func(parts ...[]byte) []byte {
		return str(5, cat(str(1, cat(parts...)), str(2, []byte(chain))))
	}
	head := cat(num(1, Precommit), num(2, 7))
	phead := cat(num(1, ProposalType), num(2, 7))
	minus := ^uint64(0)
	for _, c := range []struct {
		name, kind string
		payload    []byte
	}{
		{"pubkey/empty", PubKey, str(1, nil)},
		{"pubkey/unknown-field", PubKey, str(1, cat(str(1, []byte(chain)), num(9, 1)))},
		{"vote/no-timestamp", VoteKind, vote(head, str(4, id))},
		{"vote/no-block-id", VoteKind, vote(head, str(5, ts))},
		{"vote/empty-block-id", VoteKind, vote(head, str(4, nil), str(5, ts))},
		{"vote/no-parts", VoteKind, vote(head, str(4, str(1, sum("block"))), str(5, ts))},
		{"vote/nothing", VoteKind, vote()},
		{"vote/request-empty", VoteKind, str(3, nil)},
		{"vote/only-type", VoteKind, vote(num(1, Precommit))},
		{"vote/explicit-zeros", VoteKind, vote(head, num(3, 0), str(5, cat(num(1, 0), num(2, 0))), num(7, 0))},
		{"vote/other-order", VoteKind, vote(str(5, ts), num(2, 7), num(1, Precommit))},
		{"vote/unknown-field", VoteKind, vote(head, str(5, ts), num(99, 1))},
		{"vote/height-twice", VoteKind, vote(head, num(2, 8), str(5, ts))},
		{"vote/block-id-twice", VoteKind, vote(head, str(4, str(1, sum("block"))), str(4, str(2, cat(num(1, 1), str(2, sum("parts"))))), str(5, ts))},
		{"vote/twice", VoteKind, str(3, cat(str(1, head), str(1, num(3, 1)), str(2, []byte(chain))))},
		{"vote/round-over-32-bit", VoteKind, vote(head, num(3, 1<<32+1), str(5, ts))},
		{"vote/type-over-32-bit", VoteKind, vote(num(1, 1<<32+2), num(2, 7), str(5, ts))},
		{"vote/total-over-32-bit", VoteKind, vote(head, str(4, cat(str(1, sum("block")), str(2, cat(num(1, 1<<32+1), str(2, sum("parts")))))), str(5, ts))},
		{"vote/long-varint", VoteKind, vote(num(1, Precommit), []byte{0x10, 0x87, 0x80, 0x00}, str(5, ts))},
		{"vote/varint-11-bytes", VoteKind, vote(num(1, Precommit), []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, str(5, ts))},
		{"vote/height-as-fixed64", VoteKind, vote(num(1, Precommit), []byte{0x11, 7, 0, 0, 0, 0, 0, 0, 0}, str(5, ts))},
		{"vote/field-0", VoteKind, vote(head, []byte{0x02, 0x00}, str(5, ts))},
		{"vote/truncated", VoteKind, []byte{0x1a, 0x7f, 0x0a}},
		{"vote/length-over-end", VoteKind, str(3, []byte{0x0a, 0x05, 0x08, 0x02})},
		{"time/no-seconds", VoteKind, vote(head, str(5, num(2, 5)))},
		{"time/nanos-negative", VoteKind, vote(head, str(5, cat(num(1, 1), num(2, minus))))},
		{"time/nanos-1e9", VoteKind, vote(head, str(5, cat(num(1, 1), num(2, 1_000_000_000))))},
		{"time/year-10000", VoteKind, vote(head, str(5, num(1, 253402300800)))},
		{"time/before-year-1", VoteKind, vote(head, str(5, num(1, minus-62135596800)))},
		{"time/unknown-field", VoteKind, vote(head, str(5, cat(ts, num(3, 1))))},
		{"proposal/no-timestamp", PropKind, prop(phead, num(4, minus), str(5, id))},
		{"proposal/no-block-id", PropKind, prop(phead, num(4, minus), str(6, ts))},
		{"proposal/no-pol-round", PropKind, prop(phead, str(5, id), str(6, ts))},
		{"proposal/pol-round-5-bytes", PropKind, prop(phead, num(4, 0xffffffff), str(5, id), str(6, ts))},
		{"proposal/no-type", PropKind, prop(num(2, 7), num(4, minus), str(5, id), str(6, ts))},
		{"proposal/nothing", PropKind, prop()},
		{"proposal/request-empty", PropKind, str(5, nil)},
		{"proposal/truncated", PropKind, []byte{0x2a, 0x7f, 0x0a}},
		{"ping/unknown-field", Ping, str(7, num(1, 1))},
		{"ping/long-length", Ping, []byte{0x3a, 0x80, 0x00}},
		{"message/empty", Ping, []byte{}},
		{"message/unknown", Ping, str(77, nil)},
		{"message/two", Ping, cat(str(1, str(1, []byte(chain))), str(7, nil))},
		{"message/garbage", Ping, []byte{0xff, 0xff, 0xff}},
	} {
		l.add(Case{Name: "raw/" + c.name, Kind: c.kind, Raw: c.payload})
	}
}

// num is a field of a varint, str one of bytes (or of a message).
func num(field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(field)<<3), v)
}

func str(field int, b []byte) []byte {
	head := binary.AppendUvarint(nil, uint64(field)<<3|2)
	return append(binary.AppendUvarint(head, uint64(len(b))), b...)
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }
