package etcd

import (
	"testing"

	"privyseal/internal/etcd"
)

func TestFaultsOfVersions(t *testing.T) {
	for version, faulty := range map[string]bool{
		"3.3.27": true, "3.4.23": true, "3.4.42": false, "3.5.27": true, "3.5.28": false, "3.6.8": true, "3.6.9": false, "3.7.0": false, "4.0.0": false, "2.3.8": true, "": true, "three": true,
	} {
		if got := fault(version); (got != "") != faulty {
			t.Errorf("%q: %q", version, got)
		}
	}
}

// What a permission is for: all keys below /p/, and whether for any other.
func TestRights(t *testing.T) {
	for _, tt := range []struct {
		key, end       string
		covers, beyond bool
	}{
		{"/p/", "/p0", true, false},
		{"/p/", "/p1", true, true},
		{"/p/", "\x00", true, true},
		{"/p", "/q", true, true},
		{"/", "0", true, true},
		{"\x00", "\x00", true, true},
		{"/p/c-1/", "/p/c-10", false, false},
		{"/p/c-1/00", "", false, false},
		{"/p", "", false, true},
		{"/pq/", "/pq0", false, true},
		{"/o/", "/p/", false, true},
	} {
		p := etcd.Permission{Read: true, Write: true, Key: tt.key, End: tt.end}
		if covers(p, "/p/") != tt.covers || beyond(p, "/p/") != tt.beyond {
			t.Errorf("%s: covers all of it: %v, goes beyond it: %v", text(p), covers(p, "/p/"), beyond(p, "/p/"))
		}
	}
}
