// Package dynamotest has stand-ins for DynamoDB: a strict stub of our own, which fails on
// purpose, and the emulators that `scripts/setup dynamodb` brings. No program imports it.
package dynamotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Table is the name of the table that all stand-ins have.
const Table = "marks"

// Item is an item of a table: attributes, each {type: value}.
type Item map[string]map[string]string

// Fault is what becomes of one call.
type Fault struct {
	Op       string // of the next call of this operation
	Executed bool   // whether the call is executed all the same
	Hang     bool   // whether no answer comes for as long as the client waits
	Status   int    // of the answer; 0: the connection ends without one
	Body     string
}

// Stub is a DynamoDB with one table and a certificate of its own. What it is asked has to be
// as we ask, to the letter.
type Stub struct {
	*httptest.Server
	// Silent says that a lost condition does not show the item.
	Silent bool
	// Blind says that it writes whatever the condition says.
	Blind bool

	mu     sync.Mutex
	table  map[string]any // what DescribeTable says
	items  map[string]Item
	faults []Fault
	denied []string // operations
	only   string   // how the keys begin of items that the role may use
	calls  []string
}

// New starts a stub, which runs until the test ends.
func New(t testing.TB) *Stub {
	s := &Stub{items: map[string]Item{}}
	s.table = map[string]any{
		"TableName": Table, "TableId": "11111111-0000-4000-8000-000000000001", "TableStatus": "ACTIVE",
		"KeySchema":            []map[string]string{{"AttributeName": "mark", "KeyType": "HASH"}},
		"AttributeDefinitions": []map[string]string{{"AttributeName": "mark", "AttributeType": "S"}},
		"ItemCount":            0,
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serve(w, r); err != nil {
			t.Errorf("the stub was asked what DynamoDB would refuse: %v", err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that end, as many do
	s.StartTLS()
	t.Cleanup(s.Server.Close)
	return s
}

// Fail has calls fail.
func (s *Stub) Fail(list ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, list...)
}

// Deny has AWS allow no operation of these from now on, and all others.
func (s *Stub) Deny(operations ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = operations
}

// Only has AWS allow items alone whose keys begin like this from now on, as a policy with
// dynamodb:LeadingKeys does.
func (s *Stub) Only(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.only = prefix
}

// Describe changes what DescribeTable says. A nil value takes a field out.
func (s *Stub) Describe(field string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table[field] = value
	if value == nil {
		delete(s.table, field)
	}
}

// Backup returns all items.
func (s *Stub) Backup() map[string]Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.items)
}

// Restore puts items in place of those that are there; nil: none.
func (s *Stub) Restore(items map[string]Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = map[string]Item{}
	maps.Copy(s.items, items)
}

// Put puts an item in place of what is there, as somebody does who may write whatever he likes.
func (s *Stub) Put(key string, i Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[key] = i
}

// Calls returns the operations since the last time, in order.
func (s *Stub) Calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.calls = nil }()
	return strings.Join(s.calls, " ")
}

func (s *Stub) serve(w http.ResponseWriter, r *http.Request) error {
	version, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	authorization := r.Header.Get("Authorization")
	if r.Method != "POST" || r.URL.Path != "/" || version != "DynamoDB_20120810" || r.Header.Get("Content-Type") != "application/x-amz-json-1.0" ||
		!strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=") || !strings.Contains(authorization, "/dynamodb/aws4_request, ") {
		return fmt.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
	}
	request, err := io.ReadAll(r.Body) // to its end: only then a client that has left is noticed
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(request))
	d.DisallowUnknownFields()
	fault := s.begin(op)
	var status int
	var body string
	if fault == nil || fault.Executed {
		status, body, err = s.execute(op, d)
	}
	switch {
	case err != nil:
		return err
	case fault != nil && fault.Hang:
		<-r.Context().Done()
		return nil
	case fault != nil && fault.Status == 0:
		panic(http.ErrAbortHandler)
	case fault != nil:
		status, body = fault.Status, fault.Body
	}
	w.Header().Set("X-Amzn-Requestid", "REQ1")
	w.WriteHeader(status)
	_, err = w.Write([]byte(body))
	return err
}

// begin notes a call, and takes the fault that there is for it.
func (s *Stub) begin(op string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, op)
	for i, f := range s.faults {
		if f.Op == op {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			return &f
		}
	}
	if slices.Contains(s.denied, op) {
		status, body := refused(op)
		return &Fault{Status: status, Body: body}
	}
	return nil
}

// refused is the answer to an operation that the role may not do.
func refused(op string) (status int, body string) {
	return http.StatusBadRequest, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"not authorized to perform: dynamodb:` + op + `"}`
}

func (s *Stub) execute(op string, d *json.Decoder) (status int, body string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op {
	case "DescribeTable":
		var q struct{ TableName string }
		if err := d.Decode(&q); err != nil || q.TableName != Table {
			return 0, "", fmt.Errorf("a description of %q: %v", q.TableName, err)
		}
		return answer(http.StatusOK, map[string]any{"Table": s.table})
	case "GetItem":
		var q struct {
			TableName      string
			Key            Item
			ConsistentRead bool
		}
		if err := d.Decode(&q); err != nil || q.TableName != Table || !q.ConsistentRead || len(q.Key) != 1 || q.Key["mark"]["S"] == "" {
			return 0, "", fmt.Errorf("a read of %+v: %v", q, err)
		}
		if !strings.HasPrefix(q.Key["mark"]["S"], s.only) {
			status, body = refused(op)
			return status, body, nil
		}
		return answer(http.StatusOK, s.shown(q.Key["mark"]["S"]))
	case "PutItem":
		return s.put(d)
	}
	return 0, "", fmt.Errorf("the operation %q", op)
}

// shown is an item as answers have it; without one they have nothing.
func (s *Stub) shown(key string) map[string]any {
	if i, found := s.items[key]; found {
		return map[string]any{"Item": i}
	}
	return map[string]any{}
}

func (s *Stub) put(d *json.Decoder) (status int, body string, err error) {
	var q struct {
		TableName, ConditionExpression      string
		Item                                Item
		ExpressionAttributeNames            map[string]string
		ExpressionAttributeValues           Item
		ReturnValuesOnConditionCheckFailure string
	}
	if err := d.Decode(&q); err != nil || q.TableName != Table || q.ReturnValuesOnConditionCheckFailure != "ALL_OLD" || q.Item["mark"]["S"] == "" {
		return 0, "", fmt.Errorf("a write of %+v: %v", q, err)
	}
	key := q.Item["mark"]["S"]
	if !strings.HasPrefix(key, s.only) {
		status, body = refused("PutItem")
		return status, body, nil
	}
	old, found := s.items[key]
	holds := false
	switch q.ConditionExpression {
	case "attribute_not_exists(#k)":
		if len(q.ExpressionAttributeNames) != 1 || q.ExpressionAttributeNames["#k"] != "mark" || q.ExpressionAttributeValues != nil {
			return 0, "", errors.New("a condition with other names or values")
		}
		holds = !found
	case "#v = :v AND #n = :n":
		names := map[string]string{"#v": "value", "#n": "revision"}
		if !maps.Equal(names, q.ExpressionAttributeNames) || len(q.ExpressionAttributeValues) != 2 {
			return 0, "", errors.New("a condition with other names or values")
		}
		holds = found && maps.Equal(old["value"], q.ExpressionAttributeValues[":v"]) && maps.Equal(old["revision"], q.ExpressionAttributeValues[":n"])
	default:
		return 0, "", fmt.Errorf("the condition %q", q.ConditionExpression)
	}
	if !holds && !s.Blind {
		lost := map[string]any{}
		if !s.Silent {
			lost = s.shown(key)
		}
		lost["__type"] = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
		lost["message"] = "The conditional request failed"
		return answer(http.StatusBadRequest, lost)
	}
	s.items[key] = q.Item
	return answer(http.StatusOK, map[string]any{})
}

func answer(status int, v any) (int, string, error) {
	body, err := json.Marshal(v)
	return status, string(body), err
}
