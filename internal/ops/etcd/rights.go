package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"privyseal/internal/cure"
	"privyseal/internal/etcd"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// finding is a row of `privyseal check`.
type finding struct {
	verdict provider.Verdict
	text    string
	next    string
}

// held is what the roles of a user let it do. The role root has no permissions, and may do
// everything.
type held struct {
	roles   []string
	perms   []permission
	unknown []finding // of roles that etcd did not show
}

type permission struct {
	role string
	etcd.Permission
}

// rights asks what etcd lets a user do. Every user may ask that of itself.
func rights(ctx context.Context, conn *etcd.Conn, user string) (h held, err error) {
	of, err := conn.User(ctx, user)
	if err != nil {
		return h, err
	}
	h.roles = of.Roles
	for _, name := range of.Roles {
		role, err := conn.Role(ctx, name)
		if err != nil {
			h.unknown = append(h.unknown, finding{provider.Unsure, fmt.Sprintf("what role %q may do is not known: %v", name, err), ""})
		}
		for _, p := range role.Permissions {
			h.perms = append(h.perms, permission{name, p})
		}
	}
	return h, nil
}

// judge finds what a user may do beyond what a signer needs, and what it may not: to read and
// write the keys of some chains below a prefix, or all below it if there are no chains.
func (h held) judge(user, prefix string, chains []string) (found []finding) {
	for _, p := range h.perms {
		if beyond(p.Permission, prefix+"/") {
			found = append(found, finding{provider.Unsure, fmt.Sprintf("role %q may do more than a signer needs: %s", p.role, text(p.Permission)), p.revoke()})
		}
	}
	if h.isRoot() {
		found = append(found, finding{provider.Unsure, fmt.Sprintf("user %q has the role root, which may do everything", user), "give the signer a user of its own"})
	}
	lacks := h.lacks(prefix+"/", chains)
	switch {
	case len(h.unknown) > 0:
	case lacks != "":
		found = append(found, finding{provider.Bad, fmt.Sprintf("user %q may not %s", user, lacks), fmt.Sprintf("`etcdctl role grant-permission --prefix=true ROLE readwrite %s/`", prefix)})
	case len(found) == 0:
		found = append(found, finding{provider.Good, fmt.Sprintf("user %q may read and write below %s/, and nothing else", user, prefix), ""})
	}
	return append(found, h.unknown...)
}

func (h held) isRoot() bool { return slices.Contains(h.roles, "root") }

// lacks says what is not allowed of what a signer has to do with the keys of some chains, ""
// if all of it is.
func (h held) lacks(prefix string, chains []string) string {
	if h.isRoot() {
		return ""
	}
	needed := []string{prefix}
	for i, chain := range chains {
		needed = append(needed[:i], prefix+chain+"/")
	}
	for _, keys := range needed {
		var may []string
		if !h.covers(keys, func(p permission) bool { return p.Read }) {
			may = append(may, "read")
		}
		if !h.covers(keys, func(p permission) bool { return p.Write }) {
			may = append(may, "write")
		}
		if len(may) > 0 {
			return strings.Join(may, " and ") + " below " + keys
		}
	}
	return ""
}

// after returns the end of the range of all keys with a prefix, which ends with a slash.
func after(prefix string) string { return strings.TrimSuffix(prefix, "/") + "0" }

// keyID is the length of what the key of a mark ends with, which [etcdstore.Key] makes.
const keyID = 2 * len(watermark.ID{}.Key)

// covers reports whether some permissions together are for all keys with a prefix, or one of
// them for that of a mark, which is all that a signer of one key needs.
func (h held) covers(prefix string, is func(permission) bool) bool {
	upTo := prefix // what is below it, from prefix on, is covered
	for _, p := range slices.SortedFunc(slices.Values(h.perms), func(a, b permission) int { return strings.Compare(a.Key, b.Key) }) {
		switch {
		case !is(p):
		case p.End == "" && strings.HasPrefix(p.Key, prefix) && len(p.Key) == len(prefix)+keyID:
			return true
		case p.Key > upTo: // there is a gap
		case p.End == "\x00":
			return true
		case p.End == "":
			upTo = max(upTo, p.Key+"\x00")
		default:
			upTo = max(upTo, p.End)
		}
	}
	return upTo >= after(prefix)
}

// revoke is the command that takes a permission from a role.
func (p permission) revoke() string {
	words := []string{"etcdctl", "role", "revoke-permission"}
	switch p.End {
	case "":
		words = append(words, p.role, p.Key)
	case "\x00":
		words = append(words, "--from-key", p.role, p.Key)
	default:
		words = append(words, p.role, p.Key, p.End)
	}
	return cure.Command(words...)
}

// beyond reports whether a permission is for a key without the prefix.
func beyond(p etcd.Permission, prefix string) bool {
	return !strings.HasPrefix(p.Key, prefix) || p.End == "\x00" || p.End > after(prefix)
}

// text writes a permission for people.
func text(p etcd.Permission) string {
	may := map[[2]bool]string{{true, true}: "read and write", {true, false}: "read", {false, true}: "write"}[[2]bool{p.Read, p.Write}]
	switch {
	case p.End == "":
		return fmt.Sprintf("%s %q", may, p.Key)
	case p.End == "\x00":
		return fmt.Sprintf("%s all from %q on", may, p.Key)
	}
	return fmt.Sprintf("%s all from %q to %q", may, p.Key, p.End)
}
