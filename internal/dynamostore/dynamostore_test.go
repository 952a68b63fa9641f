package dynamostore_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/secret"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

var id = watermark.ID{ChainID: "chain-1", Key: [32]byte{1, 2, 3}}

// fixed are credentials that never change; refused counts how often they were not accepted.
type fixed struct {
	value   secret.AWS
	err     error
	refused int
}

func (f *fixed) Credentials(context.Context) (secret.AWS, error) { return f.value, f.err }

func (f *fixed) Refused(secret.AWS) { f.refused++ }

func someone() *fixed {
	return &fixed{value: secret.AWS{AccessKeyID: "AKIA", SecretAccessKey: secret.New("s"), SessionToken: secret.New("very-secret-token")}}
}

// at returns the config of an engine on an endpoint. A loaded machine needs the longest try.
func at(endpoint string, roots *x509.CertPool) dynamostore.Config {
	return dynamostore.Config{Table: dynamotest.Table, Region: "eu-central-1", Endpoint: endpoint, ID: id, Credentials: someone(), Try: dynamostore.MaxTry, Roots: roots}
}

func onStub(s *dynamotest.Stub) dynamostore.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return at(s.URL, roots)
}

func engine(t *testing.T, c dynamostore.Config) *dynamostore.Engine {
	t.Helper()
	e, err := dynamostore.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// host is one of those that share a mark, and how it reaches the table.
type host struct {
	*enginetest.Host
	c dynamostore.Config
}

// newHost returns a host that has not joined.
func newHost(t *testing.T, c dynamostore.Config) *host {
	t.Helper()
	h := &host{c: c}
	h.Host = enginetest.NewHost(t, id, func() sharedmark.Engine { return engine(t, h.c) })
	return h
}

func TestSuite(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(map[bool]string{false: "shows what was there", true: "shows nothing"}[silent], func(t *testing.T) {
			enginetest.Suite(t, id, func(t *testing.T) func() sharedmark.Engine {
				s := dynamotest.New(t)
				s.Silent = silent
				return func() sharedmark.Engine { return engine(t, onStub(s)) }
			})
		})
	}
}

// Whatever becomes of one write, the signer finds out, and the mark is raised once.
func TestWritesThatFail(t *testing.T) {
	for name, fault := range map[string]dynamotest.Fault{
		"the answer is lost":                {Executed: true},
		"the answer does not come":          {Executed: true, Hang: true},
		"the answer is garbage":             {Executed: true, Status: 200, Body: "<html>"},
		"an internal failure that executed": {Executed: true, Status: 500, Body: `{"__type":"InternalServerError"}`},
		// By whatever is before the table, which we cannot know.
		"the write was tried twice inside": {Executed: true, Status: 400, Body: `{"__type":"ConditionalCheckFailedException"}`},
		"an internal failure":              {Status: 500, Body: `{"__type":"InternalServerError"}`},
		"the request is lost":              {},
		"throttled":                        {Status: 400, Body: `{"__type":"ThrottlingException","message":"Rate exceeded"}`},
	} {
		t.Run(name, func(t *testing.T) {
			stub := dynamotest.New(t)
			c := onStub(stub)
			if fault.Hang {
				c.Try = 250 * time.Millisecond
			}
			h := newHost(t, c).Must(enginetest.Create)
			s := h.Signer()
			if err := enginetest.Raise(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			fault.Op = "PutItem"
			stub.Fail(fault)
			if err := enginetest.Raise(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if saved, err := s.Load(t.Context()); err != nil || saved.Mark.Height != 2 {
				t.Fatal(saved, err)
			}
		})
	}
}

// A table under another TableId ends every signer until it is adopted, also one that was
// connected all the time, and one whose config pins the old table after that too.
func TestRestoredTable(t *testing.T) {
	stub := dynamotest.New(t)
	c := onStub(stub)
	now := time.Now()
	c.Now = func() time.Time { return now }
	h := newHost(t, c)
	h.Must(enginetest.Create)
	other := newHost(t, c).Must(sharedmark.Join)
	s := h.Signer()
	if err := enginetest.Raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	backup := stub.Backup()
	stub.Describe("TableId", "22222222-0000-4000-8000-000000000002")
	stub.Restore(backup)
	now = now.Add(6 * time.Second)
	if err := enginetest.Raise(t.Context(), s); !errors.Is(err, sharedmark.ErrRestored) {
		t.Fatal(err)
	}
	s.Close()
	h.c.TableID = "11111111-0000-4000-8000-000000000001"
	if err := h.Do(sharedmark.Adopt); !errors.Is(err, sharedmark.ErrRefused) || !strings.Contains(err.Error(), "TableId 22222222-") {
		t.Fatal(err)
	}
	h.c.TableID = "22222222-0000-4000-8000-000000000002"
	s = h.Must(sharedmark.Adopt).Signer()
	if err := enginetest.Raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := enginetest.Raise(t.Context(), other.Signer()); !errors.Is(err, sharedmark.ErrRestored) {
		t.Fatal(err)
	}
}
