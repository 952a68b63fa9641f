// Package etcd is the store of states that several hosts share in an etcd cluster, as the
// operator's side meets it. How a mark is kept there, and what makes that safe, is
// internal/sharedmark; which member is asked is internal/etcdstore's.
package etcd

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/dial"
	"privyseal/internal/etcdstore"
	"privyseal/internal/provider"
)

// table is the first name of [etcd.NAME], and the key by which a chain names one.
const table = "etcd"

// The default of `prefix`, and the bounds of `try`.
const (
	defaultPrefix = "/privyseal"
	minTry        = 100 * time.Millisecond
	maxTry        = time.Second
)

// maxEndpoints is above the members of any cluster that etcd recommends.
const maxEndpoints = 9

// cluster is one [etcd.NAME]. Paths are relative to the folder of the config file.
type cluster struct {
	Endpoints                        []string
	CAFile, CertificateFile, KeyFile string
	Prefix                           string
	AllowPlainHTTP                   bool
	Try                              config.Duration
}

// options are the keys of [etcd.NAME].
var options = config.Options[cluster]{
	{Name: "endpoints", Of: func(c *cluster) any { return &c.Endpoints }, Required: true, Comment: "https://HOST:PORT of each member"},
	{Name: "ca_file", Of: func(c *cluster) any { return &c.CAFile }, Path: true, Comment: "PEM file of the only root certificates to trust for the members"},
	{Name: "certificate_file", Of: func(c *cluster) any { return &c.CertificateFile }, Path: true, Comment: "PEM file of our certificate; its common name is our user in etcd. A renewed one needs no restart"},
	{Name: "key_file", Of: func(c *cluster) any { return &c.KeyFile }, Path: true, Comment: "PEM file of its key, mode 0600"},
	{Name: "prefix", Of: func(c *cluster) any { return &c.Prefix }, Standard: defaultPrefix, Example: defaultPrefix, Comment: "of our keys: PREFIX/CHAIN/KEY; our user needs no rights beyond it"},
	{Name: "allow_plain_http", Of: func(c *cluster) any { return &c.AllowPlainHTTP }, Comment: "accept http:// beyond loopback: anybody on the network path can stop the signer, or have it sign twice"},
	{Name: "try", Of: func(c *cluster) any { return &c.Try }, Standard: etcdstore.DefaultTry.String(), Example: etcdstore.DefaultTry.String(), Comment: "how long one member is waited for, 100ms to 1s; then the next one is asked", More: "Signers in enclaves take 150ms to 300ms, and what is beyond for the nearest."},
}

// kind is what a config has of etcd clusters.
func kind() config.Kind {
	return config.Kind{Table: table, Noun: "an etcd cluster", Keys: options.Keys(), Decode: decode}
}

func decode(values map[string]any, fail func(key, wrong string)) config.Section {
	c := &cluster{}
	options.Decode(c, values, fail)
	return c
}

// Fill implements [config.Section].
func (c *cluster) Fill(written func(key string) bool) { options.Fill(c, written) }

// Render implements [config.Section].
func (c *cluster) Render(w *config.Lines) { options.Render(c, w) }

// Secret implements [config.Section]: the key is in a file of its own.
func (c *cluster) Secret() (key string, secret bool) { return options.Secret(c) }

// Check implements [config.Section].
func (c *cluster) Check(written func(key string) bool, fail func(key, wrong string)) {
	if !options.Check(c, written, fail) {
		return
	}
	if len(c.Endpoints) > maxEndpoints {
		fail("endpoints", fmt.Sprintf("has %d members, more than %d", len(c.Endpoints), maxEndpoints))
	}
	for i, e := range c.Endpoints {
		if slices.Contains(c.Endpoints[:i], e) {
			fail("endpoints", fmt.Sprintf("has %q twice", e))
		}
		if wrong := c.wrongEndpoint(e); wrong != "" {
			fail("endpoints", wrong)
		}
	}
	c.checkFiles(fail)
	if len(c.Prefix) > 200 || !prefixes.MatchString(c.Prefix) {
		fail("prefix", "is not a path like /privyseal or /team/privyseal")
	}
	if c.Try.Duration < minTry || c.Try.Duration > maxTry {
		fail("try", fmt.Sprintf("is not from %v to %v", minTry, maxTry))
	}
}

var prefixes = regexp.MustCompile(`^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`)

// wrongEndpoint says what is wrong with an endpoint. It quotes none that might have a
// password.
func (c *cluster) wrongEndpoint(e string) string {
	u, err := url.Parse(e)
	if err != nil || u.User != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "has one that is not https://HOST:PORT, and nothing more"
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case err != nil || port == 0:
		return fmt.Sprintf("has %q, which has no port; etcd's is 2379", e)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Sprintf("has %q, which does not begin with https://", e)
	case u.Scheme != c.scheme():
		return "has https:// and http://; choose one"
	case u.Scheme == "http" && !dial.IsLoopback(u.Hostname()) && !c.AllowPlainHTTP:
		return fmt.Sprintf("has %q, which has no TLS, so that anybody on the way can change the mark; http:// is accepted for loopback addresses only, or with allow_plain_http = true", e)
	}
	return ""
}

// scheme is that of the first endpoint, and of all.
func (c *cluster) scheme() string {
	scheme, _, _ := strings.Cut(c.Endpoints[0], "://")
	return scheme
}

func (c *cluster) plain() bool { return c.scheme() == "http" }

// checkFiles checks which files are named: all three with TLS, where the certificate is how
// etcd knows us, and none without.
func (c *cluster) checkFiles(fail func(key, wrong string)) {
	for _, f := range []struct{ key, path string }{{"ca_file", c.CAFile}, {"certificate_file", c.CertificateFile}, {"key_file", c.KeyFile}} {
		switch {
		case c.plain() && f.path != "":
			fail(f.key, "has no effect with http://")
		case !c.plain() && f.path == "":
			fail(f.key, "is missing: members and signers identify themselves by certificates")
		}
	}
}

// Members implements [provider.Carried].
func (c *cluster) Members(path func(string) string) provider.Members {
	at := c.at(path)
	return provider.Members{Try: at.Try.Duration, Endpoints: at.Endpoints, Certificate: at.CertificateFile, Key: at.KeyFile}
}

// at returns the cluster with paths as they are on this host.
func (c *cluster) at(path func(string) string) *cluster {
	at := *c
	options.Paths(&at, func(p string) (string, error) { return path(p), nil })
	return &at
}
