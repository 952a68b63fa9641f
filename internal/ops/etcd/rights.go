package etcd

import (
	"context"
	"fmt"
	"strings"

	"privyseal/internal/etcd"
	"privyseal/internal/provider"
)

// finding is a row of `privyseal check`.
type finding struct {
	verdict provider.Verdict
	text    string
	next    string
}

// rights finds what etcd lets a user do beside what a signer needs: to read and write below
// a prefix. It is asked by that user.
func rights(ctx context.Context, conn *etcd.Conn, user, prefix string) (found []finding) {
	of, err := conn.User(ctx, user)
	if err != nil {
		return []finding{{provider.Unsure, fmt.Sprintf("what user %q may do is not known, and maybe everybody may do everything: %v", user, err), ""}}
	}
	needed := false
	for _, name := range of.Roles {
		role, err := conn.Role(ctx, name)
		if err != nil {
			return []finding{{provider.Unsure, fmt.Sprintf("what role %q may do is not known: %v", name, err), ""}}
		}
		for _, p := range role.Permissions {
			needed = needed || p.Read && p.Write && covers(p, prefix+"/")
			if beyond(p, prefix+"/") {
				found = append(found, finding{provider.Unsure, fmt.Sprintf("role %q may do more than a signer needs: %s", name, text(p)), "take it from the role with `etcdctl role revoke-permission`"})
			}
		}
		if name == "root" {
			found = append(found, finding{provider.Unsure, fmt.Sprintf("user %q has the role root, which may do everything", user), "give the signer a user of its own"})
		}
	}
	switch {
	case len(found) > 0:
	case !needed:
		found = []finding{{provider.Bad, fmt.Sprintf("user %q may not read and write below %s/", user, prefix), fmt.Sprintf("`etcdctl role grant-permission --prefix=true ROLE readwrite %s/`", prefix)}}
	default:
		found = []finding{{provider.Good, fmt.Sprintf("user %q may read and write below %s/, and nothing else", user, prefix), ""}}
	}
	return found
}

// after returns the end of the range of all keys with a prefix, which ends with a slash.
func after(prefix string) string { return strings.TrimSuffix(prefix, "/") + "0" }

// covers reports whether a permission is for all keys with a prefix.
func covers(p etcd.Permission, prefix string) bool {
	return p.Key <= prefix && (p.End == "\x00" || p.End >= after(prefix))
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
