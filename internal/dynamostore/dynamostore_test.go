package dynamostore_test

import (
	"context"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/secret"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
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

// host is one of those that share a mark: how it reaches the table, and its floor.
type host struct {
	t     *testing.T
	c     dynamostore.Config
	floor filestore.Config
}

// newHost returns a host with a floor that has not joined.
func newHost(t *testing.T, c dynamostore.Config) *host {
	t.Helper()
	h := &host{t: t, c: c}
	h.floor = filestore.Config{Path: filepath.Join(filestoretest.Folder(t), "state.floor"), ID: sharedmark.Config{ID: id}.FloorID()}
	if err := filestore.Create(h.floor, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	return h
}

// config is for one use: of a signer, or of an operator's command.
func (h *host) config() sharedmark.Config {
	h.t.Helper()
	floor, err := filestore.Open(h.t.Context(), h.floor)
	if err != nil {
		h.t.Fatal(err)
	}
	return sharedmark.Config{ID: id, Engine: engine(h.t, h.c), Floor: floor}
}

// do runs an operator's command.
func (h *host) do(command func(context.Context, sharedmark.Config) error) error {
	h.t.Helper()
	c := h.config()
	defer c.Floor.Close()
	return command(h.t.Context(), c)
}

func (h *host) must(command func(context.Context, sharedmark.Config) error) *host {
	h.t.Helper()
	if err := h.do(command); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) signer() *sharedmark.Store { return sharedmark.New(h.config()) }

func create(ctx context.Context, c sharedmark.Config) error {
	return sharedmark.Create(ctx, c, watermark.Saved{})
}

// suite holds what every store has to hold, on a database that is new for each test.
func suite(t *testing.T, database func(t *testing.T) dynamostore.Config) {
	storetest.Run(t, func(t *testing.T) watermark.Store {
		return newHost(t, database(t)).must(create).signer()
	})
	storetest.RunShared(t, func(t *testing.T) (a, b watermark.Store) {
		c := database(t)
		first := newHost(t, c).must(create)
		second := newHost(t, c).must(sharedmark.Join)
		return first.signer(), second.signer()
	})
}

func TestSuite(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(map[bool]string{false: "shows what was there", true: "shows nothing"}[silent], func(t *testing.T) {
			suite(t, func(t *testing.T) dynamostore.Config {
				s := dynamotest.New(t)
				s.Silent = silent
				return onStub(s)
			})
		})
	}
}

// raise replaces the mark by that of the next height.
func raise(ctx context.Context, s *sharedmark.Store) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	saved, err := s.Load(ctx)
	if err == nil {
		_, err = s.Replace(ctx, saved, watermark.Mark{Height: saved.Mark.Height + 1, Step: watermark.StepPrevote, SignBytes: []byte("vote")})
	}
	return err
}

// Whatever becomes of one write, the signer finds out, and the mark is raised once.
func TestWritesThatFail(t *testing.T) {
	for name, fault := range map[string]dynamotest.Fault{
		"the answer is lost":                {Executed: true},
		"the answer does not come":          {Executed: true, Hang: true},
		"the answer is garbage":             {Executed: true, Status: 200, Body: "<html>"},
		"an internal failure that executed": {Executed: true, Status: 500, Body: `{"__type":"InternalServerError"}`},
		"an internal failure":               {Status: 500, Body: `{"__type":"InternalServerError"}`},
		"the request is lost":               {},
		"throttled":                         {Status: 400, Body: `{"__type":"ThrottlingException","message":"Rate exceeded"}`},
	} {
		t.Run(name, func(t *testing.T) {
			stub := dynamotest.New(t)
			c := onStub(stub)
			if fault.Hang {
				c.Try = 250 * time.Millisecond
			}
			h := newHost(t, c).must(create)
			s := h.signer()
			if err := raise(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			fault.Op = "PutItem"
			stub.Fail(fault)
			if err := raise(t.Context(), s); err != nil {
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
	h := newHost(t, c).must(create)
	other := newHost(t, c).must(sharedmark.Join)
	s := h.signer()
	if err := raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	backup := stub.Backup()
	stub.Describe("TableId", "22222222-0000-4000-8000-000000000002")
	stub.Restore(backup)
	now = now.Add(6 * time.Second)
	if err := raise(t.Context(), s); !errors.Is(err, sharedmark.ErrRestored) {
		t.Fatal(err)
	}
	s.Close()
	pinned := *h
	pinned.c.TableID = "11111111-0000-4000-8000-000000000001"
	if err := pinned.do(sharedmark.Adopt); !errors.Is(err, sharedmark.ErrRefused) || !strings.Contains(err.Error(), "TableId 22222222-") {
		t.Fatal(err)
	}
	pinned.c.TableID = "22222222-0000-4000-8000-000000000002"
	s = pinned.must(sharedmark.Adopt).signer()
	if err := raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := raise(t.Context(), other.signer()); !errors.Is(err, sharedmark.ErrRestored) {
		t.Fatal(err)
	}
}
