package dynamostore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/sharedmark"
)

// What an answer means for the write that it is about.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		status           int
		body, says       string
		notSent, refused bool
	}{
		{400, "AccessDeniedException", "does not allow it to this role", true, true},
		{400, "ResourceNotFoundException", "no such table", true, true},
		{400, "ValidationException", "does not understand", true, true},
		{400, "com.amazon.coral.service#UnrecognizedClientException", "does not accept the credentials", true, false},
		{400, "ExpiredTokenException", "have expired", true, false},
		{400, "RequestExpired", "the clock of this host", true, true},
		{400, "ThrottlingException", "too many requests", true, false},
		{400, "ProvisionedThroughputExceededException", "too many requests", true, false},
		{400, "RequestLimitExceeded", "too many requests", true, false},
		{400, "TransactionConflictException", "too many requests", true, false},
		{500, "InternalServerError", "internal failure", false, false},
		{503, "ServiceUnavailable", "internal failure", false, false},
		{500, "AccessDeniedException", "internal failure", false, false}, // the status counts
		{503, "ThrottlingException", "internal failure", false, false},
		{302, "AccessDeniedException", "says nothing of what was done", false, false},
		{400, "NeverHeardOf", "NeverHeardOf", false, false},
		{400, "RequestAbortedException", "says nothing of what was done", false, false},
		{408, "RequestTimeoutException", "says nothing of what was done", false, false},
		{400, "ReplicatedWriteConflictException", "says nothing of what was done", false, false},
		{400, "TransactionInProgressException", "says nothing of what was done", false, false},
		{400, "ItemCollectionSizeLimitExceededException", "says nothing of what was done", false, false},
		{400, "LimitExceededException", "says nothing of what was done", false, false},
		{500, "InternalFailure", "internal failure", false, false},
		{413, "", "HTTP status 413", false, false},
		{500, "ConditionalCheckFailedException", "internal failure", false, false},
	} {
		t.Run(fmt.Sprint(test.status, " ", test.body), func(t *testing.T) {
			stub := dynamotest.New(t)
			e := engine(t, onStub(stub))
			if _, _, err := e.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			body, err := json.Marshal(map[string]any{"__type": test.body, "message": "the token very-secret-token",
				"ThrottlingReasons": []map[string]string{{"reason": "TableWriteKeyRangeThroughputExceeded", "resource": "arn:aws:dynamodb:eu-central-1:1:table/marks"}}})
			if err != nil {
				t.Fatal(err)
			}
			stub.Fail(dynamotest.Fault{Op: "PutItem", Status: test.status, Body: string(body)})
			_, won, err := e.Swap(t.Context(), sharedmark.At{}, []byte("new"))
			if won || err == nil || errors.Is(err, sharedmark.ErrNotSent) != test.notSent || errors.Is(err, sharedmark.ErrRefused) != test.refused ||
				!strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "REQ1") || strings.Contains(err.Error(), "very-secret") {
				t.Error(won, err)
			}
			// Where nobody knows what was done, nor whether the table is the same, it is looked at.
			unknown := !test.notSent || test.body == "ResourceNotFoundException"
			if _, fresh, err := e.Ready(t.Context()); err != nil || fresh != unknown {
				t.Error(fresh, err)
			}
			if now, won, err := e.Swap(t.Context(), sharedmark.At{}, []byte("new")); !won || err != nil || now.Revision != 1 {
				t.Error(now, won, err)
			}
		})
	}
}

// A lost condition is one whatever can be found out about what is there.
func TestLostAndUnknown(t *testing.T) {
	stub := dynamotest.New(t)
	stub.Silent = true
	e := engine(t, onStub(stub))
	now, _, err := e.Swap(t.Context(), sharedmark.At{}, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	stub.Fail(dynamotest.Fault{Op: "GetItem"})
	if _, won, err := e.Swap(t.Context(), sharedmark.At{}, []byte("second")); won || !errors.Is(err, sharedmark.ErrNotSent) {
		t.Error(won, err)
	}
	for _, old := range []sharedmark.At{{}, {Value: []byte("first"), Revision: 2}, {Value: []byte("other"), Revision: 1}} {
		got, won, err := e.Swap(t.Context(), old, []byte("second"))
		if won || err != nil || string(got.Value) != "first" || got.Revision != now.Revision {
			t.Error(old, got, won, err)
		}
	}
}

// A write whose answer does not come, or is none, may have been executed.
func TestUnknownOutcomes(t *testing.T) {
	for _, fault := range []dynamotest.Fault{{}, {Executed: true}, {Hang: true}, {Executed: true, Status: 200, Body: "{"}} {
		fault.Op = "PutItem"
		stub := dynamotest.New(t)
		e := engine(t, onStub(stub))
		if _, _, err := e.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		stub.Fail(fault)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, won, err := e.Swap(ctx, sharedmark.At{}, []byte("new"))
		if won || err == nil || errors.Is(err, sharedmark.ErrNotSent) || errors.Is(err, sharedmark.ErrRefused) || stub.Calls() != "DescribeTable PutItem" {
			t.Error(fault, won, err)
		}
	}
}

// The table is looked at on each new connection, and again when the last look is old.
func TestLooks(t *testing.T) {
	stub := dynamotest.New(t)
	c := onStub(stub)
	now := time.Now()
	c.Now = func() time.Time { return now }
	e := engine(t, c)
	ready := func(fresh bool, calls string) {
		t.Helper()
		_, got, err := e.Ready(t.Context())
		if seen := stub.Calls(); err != nil || got != fresh || seen != calls {
			t.Errorf("fresh %v after %q: %v", got, seen, err)
		}
	}
	ready(true, "DescribeTable")
	ready(false, "")
	now = now.Add(5 * time.Second)
	ready(false, "")
	now = now.Add(time.Second)
	ready(true, "DescribeTable")
	now = now.Add(-time.Second) // a clock that was set back proves nothing
	ready(true, "DescribeTable")
	stub.CloseClientConnections() // found before a call is lost on it
	ready(true, "DescribeTable")
	e.Close()
	ready(true, "DescribeTable")
	e.Close()
	if _, err := e.Read(t.Context()); err != nil || stub.Calls() != "GetItem" { // a way that Ready did not make
		t.Error(err)
	}
	ready(true, "DescribeTable")
	stub.Fail(dynamotest.Fault{Op: "GetItem"})
	if _, err := e.Read(t.Context()); err == nil || stub.Calls() != "GetItem" {
		t.Error(err)
	}
	ready(true, "DescribeTable")
}

// Tables that no mark can be in.
func TestTables(t *testing.T) {
	for _, test := range []struct {
		field string
		value any
		says  string
	}{
		{"TableId", nil, `with the TableId ""`},
		{"TableId", "a\x1b[2J", "a?[2J"},
		{"TableName", "others", `described as "others"`},
		{"TableStatus", "CREATING", "is CREATING"},
		{"TableStatus", "DELETING", "is DELETING"},
		{"Replicas", []map[string]string{{"RegionName": "us-east-1"}}, "global table"},
		{"GlobalTableVersion", "2019.11.21", "global table"},
		{"MultiRegionConsistency", "EVENTUAL", "global table"},
		{"GlobalTableWitnesses", []map[string]string{{"RegionName": "us-east-1"}}, "global table"},
		{"StreamSpecification", map[string]any{"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"}, "has a stream"},
		{"RestoreSummary", map[string]any{"RestoreInProgress": true}, "still being restored"},
		{"KeySchema", []map[string]string{{"AttributeName": "mark", "KeyType": "HASH"}, {"AttributeName": "x", "KeyType": "RANGE"}}, "another key"},
		{"KeySchema", []map[string]string{{"AttributeName": "id", "KeyType": "HASH"}}, "another key"},
		{"AttributeDefinitions", []map[string]string{{"AttributeName": "mark", "AttributeType": "B"}}, "another key"},
	} {
		t.Run(test.field+" "+test.says, func(t *testing.T) {
			stub := dynamotest.New(t)
			stub.Describe(test.field, test.value)
			_, _, err := engine(t, onStub(stub)).Ready(t.Context())
			if !errors.Is(err, sharedmark.ErrRefused) || !strings.Contains(err.Error(), test.says) {
				t.Error(err)
			}
		})
	}
	stub := dynamotest.New(t)
	stub.Describe("RestoreSummary", map[string]any{"RestoreInProgress": false})
	stub.Describe("StreamSpecification", map[string]any{"StreamEnabled": false})
	stub.Describe("TableStatus", "UPDATING")
	if _, _, err := engine(t, onStub(stub)).Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who cannot be DynamoDB gets no request.
func TestOthersThatAnswer(t *testing.T) {
	stub := dynamotest.New(t)
	c := onStub(stub)
	c.Roots = nil
	_, _, err := engine(t, c).Ready(t.Context())
	if !errors.Is(err, sharedmark.ErrNotSent) || !strings.Contains(err.Error(), "not DynamoDB by its certificate") || stub.Calls() != "" {
		t.Error(err)
	}
	c = onStub(stub)
	c.Endpoint = strings.Replace(stub.URL, "https", "http", 1)
	if _, _, err := engine(t, c).Ready(t.Context()); err == nil || stub.Calls() != "" {
		t.Error(err)
	}
	stub.Server.Close()
	if _, _, err := engine(t, onStub(stub)).Ready(t.Context()); !errors.Is(err, sharedmark.ErrNotSent) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Error(err)
	}
}

// A try ends by itself.
func TestBound(t *testing.T) {
	stub := dynamotest.New(t)
	c := onStub(stub)
	c.Try = 50 * time.Millisecond
	stub.Fail(dynamotest.Fault{Op: "DescribeTable", Hang: true})
	if _, _, err := engine(t, c).Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
}

func TestCredentials(t *testing.T) {
	stub := dynamotest.New(t)
	c := onStub(stub)
	who := someone()
	c.Credentials = who
	e := engine(t, c)
	stub.Fail(dynamotest.Fault{Op: "DescribeTable", Status: http.StatusBadRequest, Body: `{"__type":"ExpiredTokenException"}`})
	if _, _, err := e.Ready(t.Context()); err == nil || who.refused != 1 {
		t.Error(err, who.refused)
	}
	stub.Calls()
	for _, spoil := range []func(){func() { who.value.AccessKeyID = "A\r\nX: y" }, func() { who.err = errors.New("no role") }} {
		spoil()
		if _, _, err := e.Ready(t.Context()); !errors.Is(err, sharedmark.ErrNotSent) || stub.Calls() != "" {
			t.Error(err)
		}
	}
}

func TestConfigs(t *testing.T) {
	for want, change := range map[string]func(*dynamostore.Config){
		"table is not":      func(c *dynamostore.Config) { c.Table = "a b" },
		"region is not":     func(c *dynamostore.Config) { c.Region = "evil.example/" },
		"table_id is not":   func(c *dynamostore.Config) { c.TableID = "a b" },
		"try is not":        func(c *dynamostore.Config) { c.Try = time.Minute },
		"endpoint is not":   func(c *dynamostore.Config) { c.Endpoint = "https://u:p@h" },
		"endpoint does not": func(c *dynamostore.Config) { c.Endpoint = "ftp://h" },
		"endpoint is a DAX": func(c *dynamostore.Config) {
			c.Endpoint = "https://marks.l6fzcv.dax-clusters.eu-central-1.amazonaws.com:9111"
		},
		"is a DAX cluster, which answers from a cache": func(c *dynamostore.Config) { c.Endpoint = "daxs://marks.l6fzcv.clusters.example" },
		"endpoint has no TLS":                          func(c *dynamostore.Config) { c.Endpoint = "http://192.0.2.1:8000" },
	} {
		c := at("", nil)
		change(&c)
		if _, err := dynamostore.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	c := at("http://192.0.2.1:8000", nil)
	c.AllowPlain = true
	for _, c := range []dynamostore.Config{c, at("http://127.0.0.1:8000", nil), at("http://localhost", nil), at("", nil)} {
		if _, err := dynamostore.New(c); err != nil {
			t.Error(err)
		}
	}
}
