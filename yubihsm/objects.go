package yubihsm

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
)

// MaxLabel is the longest label of an object in bytes.
const MaxLabel = 40

// Object is what a new object is to be.
type Object struct {
	// ID names the object among those of its type. With 0 the device chooses one.
	ID uint16
	// Label is for people: up to [MaxLabel] bytes without a zero byte.
	Label string
	// Domains must not be empty, and within those of the session's authentication key.
	Domains Domains
	// Capabilities must be among the delegated ones of the session's authentication key.
	Capabilities Capabilities
	Algorithm    Algorithm
	// Delegated are, of authentication keys and wrap keys, the capabilities that objects can
	// have which are made or imported with them. Objects of other types have none.
	Delegated Capabilities
}

// encode returns the head of a command that makes an object: id, label, domains,
// capabilities and algorithm, and the delegated capabilities where the type has them.
func (o Object) encode(delegates bool) ([]byte, error) {
	switch {
	case len(o.Label) > MaxLabel, strings.ContainsRune(o.Label, 0):
		return nil, fmt.Errorf("%.100q is not a label of a YubiHSM object, which has up to %d bytes, and not zero", o.Label, MaxLabel)
	case o.Domains == 0:
		return nil, fmt.Errorf("an object of a YubiHSM is in at least one domain, and 0x%04x in none", o.ID)
	case !delegates && o.Delegated != 0:
		return nil, fmt.Errorf("an object of algorithm %v has no delegated capabilities", o.Algorithm)
	}
	b := binary.BigEndian.AppendUint16(nil, o.ID)
	b = append(b, o.Label...)
	b = append(b, make([]byte, MaxLabel-len(o.Label))...)
	b = binary.BigEndian.AppendUint16(b, uint16(o.Domains))
	b = binary.BigEndian.AppendUint64(b, uint64(o.Capabilities))
	b = append(b, byte(o.Algorithm))
	if delegates {
		b = binary.BigEndian.AppendUint64(b, uint64(o.Delegated))
	}
	return b, nil
}

// create has an object made of what follows its head, and returns its id.
func (s *Session) create(ctx context.Context, c Command, o Object, delegates bool, content ...[]byte) (uint16, error) {
	data, err := o.encode(delegates)
	if err != nil {
		return 0, err
	}
	for _, part := range content {
		data = append(data, part...)
	}
	defer clear(data)
	answer, err := s.Send(ctx, c, data)
	if err != nil {
		return 0, err
	}
	return parseID(answer, o.ID)
}

// parseID returns the id in an answer, which has to be the wanted one, if that is not 0.
func parseID(answer []byte, want uint16) (uint16, error) {
	f := fields{rest: answer}
	id := f.uint16()
	if err := f.done("an object's id"); err != nil {
		return 0, err
	}
	if want != 0 && id != want {
		return 0, malformed("the object 0x%04x in place of 0x%04x", id, want)
	}
	return id, nil
}

// named returns the id and the type of an object, as commands have them.
func named(t ObjectType, id uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, id), byte(t))
}

// Entry is one object in a list.
type Entry struct {
	ID   uint16
	Type ObjectType
	// Sequence counts how often an object with this id and type was made, modulo 256.
	Sequence byte
}

// Filter says which objects are listed: those that match all fields that are not zero.
type Filter struct {
	ID   uint16
	Type ObjectType
	// Domains: objects that are in one of these.
	Domains Domains
	// Capabilities: objects that have one of these.
	Capabilities Capabilities
	Algorithm    Algorithm
	Label        string
}

// Numbers of the filters (guide, LIST OBJECTS).
const (
	filterID           = 1
	filterType         = 2
	filterDomains      = 3
	filterCapabilities = 4
	filterAlgorithm    = 5
	filterLabel        = 6
)

func (f Filter) encode() ([]byte, error) {
	if len(f.Label) > MaxLabel {
		return nil, fmt.Errorf("%.100q is not a label of a YubiHSM object, which has up to %d bytes", f.Label, MaxLabel)
	}
	var b []byte
	if f.ID != 0 {
		b = binary.BigEndian.AppendUint16(append(b, filterID), f.ID)
	}
	if f.Type != 0 {
		b = append(b, filterType, byte(f.Type))
	}
	if f.Domains != 0 {
		b = binary.BigEndian.AppendUint16(append(b, filterDomains), uint16(f.Domains))
	}
	if f.Capabilities != 0 {
		b = binary.BigEndian.AppendUint64(append(b, filterCapabilities), uint64(f.Capabilities))
	}
	if f.Algorithm != 0 {
		b = append(b, filterAlgorithm, byte(f.Algorithm))
	}
	if f.Label != "" {
		b = append(append(b, filterLabel), f.Label...)
		b = append(b, make([]byte, MaxLabel-len(f.Label))...)
	}
	return b, nil
}

func parseEntries(answer []byte) (list []Entry, err error) {
	f := fields{rest: answer}
	for len(f.rest) > 0 {
		list = append(list, Entry{f.uint16(), ObjectType(f.byte()), f.byte()})
	}
	return list, f.done("a list of objects")
}

// ListObjects returns the objects that match the filter, of those that share a domain with
// the session's authentication key. The zero Filter matches all.
func (s *Session) ListObjects(ctx context.Context, f Filter) ([]Entry, error) {
	data, err := f.encode()
	if err != nil {
		return nil, err
	}
	answer, err := s.Send(ctx, CommandListObjects, data)
	if err != nil {
		return nil, err
	}
	return parseEntries(answer)
}

// Origin is how an object came into the device. Bits other than these are possible.
type Origin byte

// Bits of an Origin.
const (
	Generated       Origin = 0x01 // in the device
	Imported        Origin = 0x02 // in plain text
	ImportedWrapped Origin = 0x10 // under wrap; how it was made is said by one of the others
)

// ObjectInfo is all that a device says of an object but its content.
type ObjectInfo struct {
	Object
	Type ObjectType
	// Length is the size of the content in bytes.
	Length int
	// Sequence counts how often an object with this id and type was made, modulo 256.
	Sequence byte
	Origin   Origin
}

func parseObjectInfo(answer []byte) (i ObjectInfo, err error) {
	f := fields{rest: answer}
	i.Capabilities = Capabilities(f.uint64())
	i.ID, i.Length, i.Domains = f.uint16(), int(f.uint16()), Domains(f.uint16())
	i.Type, i.Algorithm = ObjectType(f.byte()), Algorithm(f.byte())
	i.Sequence, i.Origin = f.byte(), Origin(f.byte())
	label := string(f.bytes(MaxLabel))
	i.Label, _, _ = strings.Cut(label, "\x00")
	i.Delegated = Capabilities(f.uint64())
	return i, f.done("an object's info")
}

// ObjectInfo describes an object. The label is what is stored up to the first zero byte,
// and needs not be valid UTF-8.
func (s *Session) ObjectInfo(ctx context.Context, t ObjectType, id uint16) (ObjectInfo, error) {
	answer, err := s.Send(ctx, CommandGetObjectInfo, named(t, id))
	if err != nil {
		return ObjectInfo{}, err
	}
	i, err := parseObjectInfo(answer)
	if err == nil && (i.Type != t || i.ID != id) {
		err = malformed("the info of %v 0x%04x in place of %v 0x%04x", i.Type, i.ID, t, id)
	}
	return i, err
}

// DeleteObject deletes an object. It needs the capability to delete its type. Nothing brings
// the object back.
func (s *Session) DeleteObject(ctx context.Context, t ObjectType, id uint16) error {
	answer, err := s.Send(ctx, CommandDeleteObject, named(t, id))
	return empty(CommandDeleteObject, answer, err)
}

// PutOpaque stores data, of algorithm [OpaqueData] or [OpaqueX509Certificate], and returns
// the object's id. It needs [PutOpaque]. Up to some 1970 bytes fit, and 3060 from firmware
// 2.4 on ([Session.DeviceInfo]).
func (s *Session) PutOpaque(ctx context.Context, o Object, data []byte) (uint16, error) {
	return s.create(ctx, CommandPutOpaque, o, false, data)
}

// Opaque returns the data of an opaque object. It needs [GetOpaque].
func (s *Session) Opaque(ctx context.Context, id uint16) ([]byte, error) {
	return s.Send(ctx, CommandGetOpaque, binary.BigEndian.AppendUint16(nil, id))
}

// PutAuthenticationKey stores an authentication key, and returns its id. It needs
// [PutAuthenticationKey]. The algorithm is [AES128YubicoAuthentication].
func (s *Session) PutAuthenticationKey(ctx context.Context, o Object, key AuthenticationKey) (uint16, error) {
	keys, err := key.bytes()
	if err != nil {
		return 0, err
	}
	defer clear(keys)
	return s.create(ctx, CommandPutAuthenticationKey, o, true, keys)
}

// ChangeAuthenticationKey puts a new key in place of the one that the session was opened
// with, whose id does not change. It needs [ChangeAuthenticationKey]. The session goes on.
func (s *Session) ChangeAuthenticationKey(ctx context.Context, key AuthenticationKey) error {
	keys, err := key.bytes()
	if err != nil {
		return err
	}
	data := append(named(ObjectType(AES128YubicoAuthentication), s.authKey), keys...)
	defer clear(data)
	clear(keys)
	answer, err := s.Send(ctx, CommandChangeAuthenticationKey, data)
	if err != nil {
		return err
	}
	_, err = parseID(answer, s.authKey)
	return err
}
