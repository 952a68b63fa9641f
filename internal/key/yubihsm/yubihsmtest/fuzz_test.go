package yubihsmtest

import (
	"bytes"
	"testing"
)

// FuzzMessages: whatever message comes, the device answers one whole frame.
func FuzzMessages(f *testing.F) {
	d := New(f, Options{})
	for _, seed := range [][]byte{frame(Echo, []byte("x")), frame(GetDeviceInfo), frame(CreateSession, make([]byte, 10)),
		frame(AuthenticateSession, make([]byte, 17)), frame(SessionMessage, make([]byte, 25)), {}, {5}, {5, 0, 0}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		answer, ok := d.Exchange(message)
		if _, _, whole := parse(answer); !ok || !whole {
			t.Errorf("% x is answered by % x", message, answer)
		}
	})
}

// FuzzCommands: whatever a session's owner sends, the device answers, and gives away no
// more capabilities than its own.
func FuzzCommands(f *testing.F) {
	object := bytes.Join([][]byte{{0, 9}, label("x"), {0, 1}, make([]byte, 7), {0x80}}, nil)
	for command, data := range map[byte][]byte{
		PutAsymmetricKey: append(append(object, K256), make([]byte, 32)...), GenerateAsymmetric: append(object, Ed25519),
		ListObjects: {1, 0, 5}, ExportWrapped: {0, 1, 3, 0, 5}, SignEdDSA: {0, 5, 1}, SignECDSA: {0, 6, 1}, SignAttestation: {0, 5, 0, 0},
		SetOption: {1, 0, 1, 1}, SetLogIndex: {0, 1}, GetObjectInfo: {0, 5, 3}, DeleteObject: {0, 5, 3}, GetPseudoRandom: {0, 8},
	} {
		f.Add(command, data)
	}
	f.Fuzz(func(t *testing.T, command byte, data []byte) {
		d := deviceOf(t)
		const can = All &^ CanExportWrapped
		c := &call{d: d, s: &session{authKey: 1, domains: 1, can: All, delegate: can}, command: command, in: data, length: len(data)}
		got, _, whole := parse(c.do(sessionCommands))
		if !whole || got != errorReply && got != command|reply {
			t.Errorf("command %02x is answered by %02x", command, got)
		}
		for r, o := range d.objects {
			if o.ID != 1 && (!can.has(o.Capabilities) || !can.has(o.Delegated) || o.Domains&^1 != 0) {
				t.Errorf("command %02x made %v of more than its session has", command, r)
			}
		}
	})
}

// deviceOf is a device without a connector.
func deviceOf(t *testing.T) *Device {
	d := &Device{options: Options{Firmware: [3]byte{2, 4, 0}}, attester: sharedAttester(t), power: make(chan struct{})}
	d.reset()
	for _, o := range []Object{
		{Type: AsymmetricKey, ID: 5, Algorithm: Ed25519, Capabilities: CanSignEdDSA, Domains: 1},
		{Type: AsymmetricKey, ID: 6, Algorithm: K256, Capabilities: CanSignECDSA, Domains: 1},
	} {
		d.Provision(t, o, bytes.Repeat([]byte{7}, 32))
	}
	d.Provision(t, Object{Type: WrapKey, ID: 1, Algorithm: AES256CCM, Capabilities: All, Domains: 1}, bytes.Repeat([]byte{7}, 32))
	return d
}

var theAttester *attester

func sharedAttester(t *testing.T) *attester {
	if theAttester == nil {
		theAttester = newAttester(DefaultSerial, [3]byte{2, 4, 0})
	}
	return theAttester
}
