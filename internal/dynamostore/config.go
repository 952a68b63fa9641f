package dynamostore

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"privyseal/internal/awsjson"
	"privyseal/internal/dial"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// Credentials are where an Engine finds out who it is for AWS. It is asked before each call,
// so it keeps what it found.
type Credentials interface {
	Credentials(ctx context.Context) (secret.AWS, error)
	// Refused says that AWS does not accept these any more.
	Refused(c secret.AWS)
}

// Config says which table, and which item of it.
type Config struct {
	Table, Region string
	// TableID is what the table has to have, or "".
	TableID string
	// Endpoint is https://HOST[:PORT], "" for that of the region. http:// is accepted for
	// loopback addresses only, or where AllowPlain is set: whoever is on the way can
	// answer what he likes.
	Endpoint   string
	AllowPlain bool
	// ID is the mark's.
	ID          watermark.ID
	Credentials Credentials
	// Try bounds one call, its connection included; 0 means [DefaultTry].
	Try time.Duration
	// Roots are those of DynamoDB's certificate; nil means the system's.
	Roots *x509.CertPool
	// Dial connects to host:port; nil is a [net.Dialer].
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// DefaultTry leaves a vote time for two more tries. MaxTry is half of what a node waits.
const (
	DefaultTry = 400 * time.Millisecond
	MaxTry     = 2 * time.Second
)

// isName reports whether s is the name of a table, and isID whether it is a TableId, as AWS
// has them.
func isName(s string) bool { return len(s) >= 3 && len(s) <= 255 && strings.Trim(s, alnum+"_.-") == "" }
func isID(s string) bool   { return len(s) >= 1 && len(s) <= 64 && strings.Trim(s, alnum+"-") == "" }

const alnum = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// Check calls fail with each part that cannot be, by its name in privyseal.toml, and what is
// wrong with it.
func (c Config) Check(fail func(key, wrong string)) {
	if !isName(c.Table) {
		fail("table", "is not the name of a table")
	}
	if !awsjson.IsRegion(c.Region) {
		fail("region", "is not a region like eu-central-1")
	}
	if c.TableID != "" && !isID(c.TableID) {
		fail("table_id", "is not a TableId, as `aws dynamodb describe-table` prints it")
	}
	if c.Try < 0 || c.Try > MaxTry {
		fail("try", fmt.Sprintf("is not above 0 and at most %v: a node does not wait longer for its vote", MaxTry))
	}
	u, err := c.url()
	switch {
	case err != nil:
		fail("endpoint", err.Error())
	case u.Scheme == "http" && !c.AllowPlain && !dial.IsLoopback(u.Hostname()):
		fail("endpoint", "has no TLS, so that anybody on the way can answer for DynamoDB; http:// is accepted for loopback addresses only, or with allow_plain_http = true")
	}
}

// url returns the endpoint.
func (c Config) url() (*url.URL, error) {
	if c.Endpoint == "" {
		domain := ".amazonaws.com"
		if strings.HasPrefix(c.Region, "cn-") {
			domain += ".cn"
		}
		return &url.URL{Scheme: "https", Host: "dynamodb." + c.Region + domain}, nil
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("is not https://HOST or https://HOST:PORT, and nothing more")
	case strings.HasPrefix(u.Scheme, "dax") || strings.Contains(u.Hostname(), ".dax-clusters."):
		return nil, errors.New("is a DAX cluster, which answers from a cache: take DynamoDB itself")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("does not begin with https://")
	}
	return u, nil
}
