package dynamodb

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// on returns the stub's table as a config has it, with more of it, and that config. Before each
// read of the stub comes a delay.
func on(t *testing.T, s *dynamotest.Stub, delay time.Duration, more ...string) (*table, *config.Config) {
	t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: s.Client().Transport}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetItem") {
			time.Sleep(delay)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c, err := kinds.Parse("privyseal.toml", []byte(with(append([]string{"endpoint", `"` + front.URL + `"`}, more...)...)+keys))
	if err != nil {
		t.Fatal(err)
	}
	return c.Tables[name]["main"].(*table), c
}

// What to do is told where it is known, on a line of its own, and nothing else is.
func TestNextSteps(t *testing.T) {
	here := &table{Region: "eu-central-1"}
	elsewhere := &table{Region: "eu-central-1", Endpoint: "https://vpce-1.example"}
	for _, tt := range []struct {
		of     *table
		reason error
		next   string
	}{
		{here, dynamostore.ErrDenied, "the role of this host needs dynamodb:DescribeTable, dynamodb:GetItem and dynamodb:PutItem for this table: doc/dynamodb.md has the policy"},
		{here, dynamostore.ErrNoTable, "correct table, region or account; or make it, as in doc/dynamodb.md"},
		{here, dynamostore.ErrExpired, noRole},
		{here, dynamostore.ErrCredentials, noRole},
		{here, dynamostore.ErrClock, "look at the clock of this host with `date`"},
		{here, dynamostore.ErrTLS, "look at what is at region eu-central-1: AWS's certificate is one for this name"},
		{elsewhere, dynamostore.ErrTLS, "look at what is at https://vpce-1.example: AWS's certificate is one for this name"},
		{here, dynamostore.ErrRequest, ""},
		{here, dynamostore.ErrBusy, ""},
		{here, dynamostore.ErrUnavailable, ""},
		{here, dynamostore.ErrOther, ""},
		{here, dynamostore.ErrConnect, ""},
		{here, dynamostore.ErrAnswer, ""},
		{here, dynamostore.ErrOtherTable, ""}, // internal/sharedstate has it, for a chain
	} {
		err := tt.of.explain(&dynamostore.Error{Op: "GetItem", Reason: tt.reason})
		failed, next := cure.Split(err.Error())
		if next != tt.next || failed != "cannot call GetItem of DynamoDB: "+tt.reason.Error() || !errors.Is(err, tt.reason) {
			t.Errorf("%v", err)
		}
	}
	if err := here.explain(nil); err != nil {
		t.Error(err)
	}
}

// Every call of a mark's engine says what to do, and a table that cannot be is never called.
func TestWays(t *testing.T) {
	calls := map[string]func(e sharedmark.Engine) error{
		"DescribeTable": func(e sharedmark.Engine) error { _, _, err := e.Ready(t.Context()); return err },
		"GetItem":       func(e sharedmark.Engine) error { _, err := e.Read(t.Context()); return err },
		"PutItem": func(e sharedmark.Engine) error {
			_, _, err := e.Swap(t.Context(), sharedmark.At{}, []byte("x"))
			return err
		},
	}
	s := dynamotest.New(t)
	of, _ := on(t, s, 0, "try", `"2s"`)
	id := watermark.ID{ChainID: "chain-1", Key: [32]byte{1}}
	for op, call := range calls {
		e := of.engine(id)
		if err := call(e); err != nil {
			t.Error(op, err)
		}
		s.Deny(op)
		e.Close()
		if err := call(e); !errors.Is(err, dynamostore.ErrDenied) || !strings.HasSuffix(err.Error(), "doc/dynamodb.md has the policy") {
			t.Error(op, err)
		}
		s.Deny()
		e.Close()
		wrong := *of
		wrong.Region = "nowhere"
		if err := call(wrong.engine(id)); err == nil || !strings.Contains(err.Error(), "region is not a region") {
			t.Error(op, err)
		}
	}
}

// A table is pinned once it is known that this role can use it, and not before.
func TestPrepare(t *testing.T) {
	s := dynamotest.New(t)
	of, _ := on(t, s, 0, "try", `"2s"`)
	for _, op := range []string{"DescribeTable", "GetItem", "PutItem"} {
		s.Deny(op)
		if line, err := of.prepare(t.Context(), watermark.ID{ChainID: "chain-1"}); line != "" || of.TableID != "" || !errors.Is(err, dynamostore.ErrDenied) || !strings.Contains(err.Error(), op) {
			t.Error(line, of.TableID, err)
		}
	}
	s.Deny()
	const id = "11111111-0000-4000-8000-000000000001"
	if line, err := of.prepare(t.Context(), watermark.ID{ChainID: "chain-1"}); err != nil || line != `table_id = "`+id+`"` || of.TableID != id {
		t.Error(line, of.TableID, err)
	}
	if line, err := of.prepare(t.Context(), watermark.ID{ChainID: "chain-1"}); err != nil || line != "" {
		t.Error(line, err)
	}
	s.Describe("TableId", "22222222-0000-4000-8000-000000000002")
	if line, err := of.prepare(t.Context(), watermark.ID{ChainID: "chain-1"}); !errors.Is(err, sharedmark.ErrOther) || line != "" || of.TableID != id {
		t.Error(line, of.TableID, err)
	}
}

// What check says of a table by how long it takes, and of what is wrong with it.
func TestCheckRows(t *testing.T) {
	for what, tt := range map[string]struct {
		delay   time.Duration
		more    []string
		spoil   func(s *dynamotest.Stub)
		verdict provider.Verdict
		says    string
		next    string
	}{
		"slower than a try": {60 * time.Millisecond, []string{"try", `"50ms"`}, nil, provider.Bad, "and `try` is 50ms", "take a region nearby, or raise `try` in the config"},
		"far away":          {101 * time.Millisecond, []string{"try", `"2s"`}, nil, provider.Unsure, "; a region nearby is faster", ""},
		"no table": {0, nil, func(s *dynamotest.Stub) {
			s.Fail(dynamotest.Fault{Op: "DescribeTable", Status: 400, Body: `{"__type":"ResourceNotFoundException"}`})
		}, provider.Bad, "there is no such table", "correct table, region or account; or make it, as in doc/dynamodb.md"},
		"no right":       {0, nil, func(s *dynamotest.Stub) { s.Deny("GetItem") }, provider.Bad, "cannot call GetItem", "the role of this host needs dynamodb:GetItem for this table: doc/dynamodb.md has the policy"},
		"another table":  {0, []string{"table_id", `"2"`}, nil, provider.Bad, "has the TableId 11111111-0000-4000-8000-000000000001, and the config says 2: ", `what to do is in doc/dynamodb.md, "The table was restored"`},
		"a global table": {0, nil, func(s *dynamotest.Stub) { s.Describe("GlobalTableVersion", "2019.11.21") }, provider.Bad, "is a global table", ""},
	} {
		t.Run(what, func(t *testing.T) {
			s := dynamotest.New(t)
			_, c := on(t, s, tt.delay, tt.more...)
			if tt.spoil != nil {
				tt.spoil(s)
			}
			r := provider.Report{Config: c}
			check(t.Context(), &r)
			row := r.Rows[0]
			if row.Verdict != tt.verdict || row.Check != "dynamodb main" || row.Line == 0 || !strings.Contains(row.Text, tt.says) || row.Cure != tt.next {
				t.Errorf("%+v", r.Rows)
			}
		})
	}
}

// A role may be limited to the items of its chains, and what it lacks for one of them is told with
// that chain.
func TestCheckOfALimitedRole(t *testing.T) {
	second := strings.NewReplacer("chain-1", "chain-2", "[log]\nlevel = \"info\"\nformat = \"text\"\n", "", "listen = \"\"\n", "").Replace(head)
	for what, tt := range map[string]struct {
		only string
		says string // of the rows about rights
	}{
		"none":       {"", "ok "},
		"both":       {"chain-", "ok "},
		"one of two": {"chain-2/", "FAIL for the item of chain chain-1 in this table: FAIL for the item of chain chain-1 in this table: "},
		"others":     {"other/", "FAIL for this table: FAIL for this table: "},
	} {
		s := dynamotest.New(t)
		of, _ := on(t, s, 0, "try", `"2s"`)
		c, err := kinds.Parse("privyseal.toml", []byte(with("endpoint", `"`+of.Endpoint+`"`, "try", `"2s"`)+keys+second))
		if err != nil {
			t.Fatal(err)
		}
		s.Only(tt.only)
		r := provider.Report{Config: c, ID: func(ch config.Chain) watermark.ID { return watermark.ID{ChainID: ch.ID, Key: [32]byte{7}} }}
		check(t.Context(), &r)
		says := ""
		for _, row := range r.Rows {
			if _, after, found := strings.Cut(row.Cure, "Item "); found {
				says += string(row.Verdict) + " " + strings.TrimSuffix(after, "doc/dynamodb.md has the policy")
			} else if row.Verdict != provider.Unsure {
				says += string(row.Verdict) + " "
			}
		}
		if says != tt.says {
			t.Errorf("%s: %q of %+v", what, says, r.Rows)
		}
		if got := s.Calls(); strings.Count(got, "DescribeTable") != 2 {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// Credentials of the config go before those of the SDK, and who has none is told what to do.
func TestWhoWeAre(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e", "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_PROFILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		t.Setenv(name, value)
	}
	ask := func(text, want string) error {
		t.Helper()
		c, err := kinds.Parse("privyseal.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		who, err := c.Tables[name]["main"].(*table).kept.Credentials(context.Background())
		if who.AccessKeyID != want {
			t.Errorf("%q, %v", who.AccessKeyID, err)
		}
		return err
	}
	if err := ask(head+least+keys, "AKIA"); err != nil {
		t.Error(err)
	}
	if err := ask(head+least, "AKIAENV"); err != nil {
		t.Error(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if err := ask(head+least, ""); err == nil || !strings.Contains(err.Error(), "give this host a role that may use the table") {
		t.Error(err)
	}
}
