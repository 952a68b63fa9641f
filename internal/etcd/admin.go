package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Member is a member of the cluster.
type Member struct {
	ID         uint64
	Name       string // empty: it was not started yet
	ClientURLs []string
	Learner    bool
}

func (m *Member) decode(b []byte) error {
	return walk("member", b, shape{numbers: bits(1, 5), bytes: bits(2, 4), repeated: bits(4)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			m.ID = n
		case 2:
			m.Name = clean(string(data))
		case 4:
			m.ClientURLs = append(m.ClientURLs, clean(string(data)))
		case 5:
			return setBool(&m.Learner, n)
		}
		return nil
	})
}

// Members is the answer to the question who belongs to the cluster.
type Members struct {
	Header  Header
	Members []Member
}

func (m *Members) decode(b []byte) error {
	return list("members", b, &m.Header, &m.Members, (*Member).decode)
}

// Alarm is what a member has raised: nothing can be written any more.
type Alarm struct {
	Member uint64
	Kind   string // NOSPACE, CORRUPT
}

func (a *Alarm) decode(b []byte) error {
	var kind uint64
	err := walk("alarm", b, shape{numbers: bits(1, 2)}, func(field int, n uint64, _ []byte) error {
		switch field {
		case 1:
			a.Member = n
		case 2:
			kind = n
		}
		return nil
	})
	switch kind {
	case 1:
		a.Kind = "NOSPACE"
	case 2:
		a.Kind = "CORRUPT"
	default:
		a.Kind = fmt.Sprintf("alarm %d", kind)
	}
	return err
}

// Alarms is the answer to the question for alarms.
type Alarms struct {
	Header Header // empty in etcd 3.4
	Alarms []Alarm
}

func (a *Alarms) decode(b []byte) error {
	return list("alarms", b, &a.Header, &a.Alarms, (*Alarm).decode)
}

// Keys is the answer to the question which keys there are below a prefix.
type Keys struct {
	Header Header
	Names  []string
	More   bool // than were asked for
}

// appendKeys appends a RangeRequest for the names of at most limit keys that begin with a
// prefix, which ends with a slash.
func appendKeys(b []byte, prefix string, limit uint64) []byte {
	b = appendBytes(b, 1, []byte(prefix))
	b = appendBytes(b, 2, []byte(strings.TrimSuffix(prefix, "/")+"0")) // which is what follows "/"
	b = appendNumber(b, 3, limit)
	return appendNumber(b, 8, 1) // no values
}

func (k *Keys) decode(prefix string, limit uint64, b []byte) error {
	err := walk("keys", b, shape{numbers: bits(3), bytes: bits(1, 2), repeated: bits(2)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			return k.Header.decode(data)
		case 2:
			return k.name(prefix, data)
		}
		return setBool(&k.More, n)
	})
	if err == nil && uint64(len(k.Names)) > limit {
		err = errors.New("more keys than were asked for")
	}
	return err
}

// name reads the name of a KeyValue without its value.
func (k *Keys) name(prefix string, b []byte) error {
	return walk("key", b, shape{bytes: bits(1, 5)}, func(field int, _ uint64, data []byte) error {
		if field == 5 {
			return errors.New("a value that nobody asked for")
		}
		if !strings.HasPrefix(string(data), prefix) {
			return errors.New("a key without the prefix")
		}
		k.Names = append(k.Names, string(data))
		return nil
	})
}

// User is what a user of the cluster may be.
type User struct {
	Header Header
	Roles  []string
}

func (u *User) decode(b []byte) error {
	return list("user", b, &u.Header, &u.Roles, func(role *string, b []byte) error {
		*role = string(b)
		return nil
	})
}

// Permission lets a role do something with keys.
type Permission struct {
	Read, Write bool
	Key         string
	End         string // "": only that key; "\x00": all from it on; otherwise all from it up to here, without
}

func (p *Permission) decode(b []byte) error {
	var kind uint64
	err := walk("permission", b, shape{numbers: bits(1), bytes: bits(2, 3)}, func(field int, n uint64, data []byte) error {
		switch field {
		case 1:
			kind = n
		case 2:
			p.Key = string(data)
		case 3:
			p.End = string(data)
		}
		return nil
	})
	if err == nil && kind > 2 {
		err = fmt.Errorf("a permission of kind %d", kind)
	}
	p.Read, p.Write = kind != 1, kind != 0
	return err
}

// Role is what a role may do.
type Role struct {
	Header      Header
	Permissions []Permission
}

func (r *Role) decode(b []byte) error {
	return list("role", b, &r.Header, &r.Permissions, (*Permission).decode)
}

// list reads an answer that is a header, 1, and a list, 2.
func list[T any](what string, b []byte, h *Header, items *[]T, decode func(*T, []byte) error) error {
	return walk(what, b, shape{bytes: bits(1, 2), repeated: bits(2)}, func(field int, _ uint64, data []byte) error {
		if field == 1 {
			return h.decode(data)
		}
		var item T
		err := decode(&item, data)
		*items = append(*items, item)
		return err
	})
}

// Keys asks which keys there are below a prefix, which ends with a slash: at most limit, by
// their names.
func (c *Conn) Keys(ctx context.Context, prefix string, limit uint64) (Keys, error) {
	var k Keys
	err := c.ask(ctx, "KV/Range", true, appendKeys(nil, prefix, limit), &k.Header, func(b []byte) error { return k.decode(prefix, limit, b) })
	return k, err
}

// Members asks the member who belongs to the cluster, as far as it knows: it answers by
// itself. After a Range there it knows what the Range came after.
func (c *Conn) Members(ctx context.Context) (Members, error) {
	var m Members
	err := c.ask(ctx, "Cluster/MemberList", false, nil, &m.Header, m.decode)
	return m, err
}

// Alarms asks for the alarms of all members.
func (c *Conn) Alarms(ctx context.Context) (Alarms, error) {
	var a Alarms
	err := c.ask(ctx, "Maintenance/Alarm", true, nil, nil, a.decode)
	return a, err
}

// User asks which roles a user has. Everybody may ask that of himself: it is the common
// name of our certificate.
func (c *Conn) User(ctx context.Context, name string) (User, error) {
	var u User
	err := c.ask(ctx, "Auth/UserGet", true, appendBytes(nil, 1, []byte(name)), &u.Header, u.decode)
	return u, err
}

// Role asks what a role may do, which who has it may ask.
func (c *Conn) Role(ctx context.Context, name string) (Role, error) {
	var r Role
	err := c.ask(ctx, "Auth/RoleGet", true, appendBytes(nil, 1, []byte(name)), &r.Header, r.decode)
	return r, err
}
