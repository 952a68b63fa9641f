// Package hostlink is everything that crosses the wall between an enclave and
// its host, both ends in one room: where each dials the other, the records of
// the state, and the requests of the host.
//
// The host is not trusted by the enclave. It may drop, delay, double, reorder
// or replay whatever it is given, run several enclaves on one state, and invent
// requests. It cannot forge a record of the state: each carries a MAC under a
// key that is derived from the consensus key. Nothing is signed before the host
// has acknowledged the record, and what the host acknowledges after the first
// load is what the enclave sent, never what the host would like.
//
// Authenticated is not fresh. A replay within one boot is detected; across
// boots it is not: a host may hand an old record of the same key to an enclave
// that starts. Attestations carry boot id, sequence and mark, so that a watcher
// elsewhere can prove it; a store that the host does not control is the cure.
package hostlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The ports. The enclave listens on ControlPort; the host on the others. All but
// AWS's are below 1024, and so is the port that the host dials from: no other user
// of the instance, such as a node that was taken over, can stand in for a host that
// is down and acknowledge what no disk holds.
const (
	ControlPort   = 900
	StatePort     = 901
	NodePort      = 902
	KMSPort       = 903
	LogPort       = 904
	EtcdPort      = 905
	TablePort     = 906  // DynamoDB, whose bytes follow at once, as those of KMS do
	RolePort      = 907  // one RoleHello, one RoleAnswer
	HeartbeatPort = 9000 // AWS's own: one byte, 0xB7, there and back
)

// maxFrame bounds every frame in bytes. The largest is a boot request with the
// wrapped keys of some hundred chains.
const maxFrame = 1 << 20

var errFrame = errors.New("a frame over the limit")

// writeFrame writes a payload after its length, four bytes big-endian, with
// one Write.
func writeFrame(w io.Writer, payload []byte) error {
	if len(payload) > maxFrame {
		return errFrame
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(payload)), uint32(len(payload)))
	_, err := w.Write(append(frame, payload...))
	return err
}

// readFrame reads one payload of at most limit bytes.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(limit) {
		return nil, errFrame
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, fmt.Errorf("a frame that is cut off: %w", err)
	}
	return payload, nil
}
