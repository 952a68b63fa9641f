package dynamostore_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/sharedmark"
)

// What a role may not do is found, each of it, and nothing is written to find it.
func TestMissingRights(t *testing.T) {
	for _, denied := range []string{"", "DescribeTable", "GetItem", "PutItem", "DescribeTable PutItem", "DescribeTable GetItem PutItem"} {
		t.Run(denied, func(t *testing.T) {
			stub := dynamotest.New(t)
			stub.Deny(strings.Fields(denied)...)
			seen, err := dynamostore.Look(t.Context(), onStub(stub))
			if err != nil {
				t.Fatal(err)
			}
			var ops []string
			for _, e := range seen.Denied {
				ops = append(ops, e.Op)
				if !strings.Contains(e.Error(), "not authorized to perform: dynamodb:"+e.Op) {
					t.Error(e)
				}
			}
			if got := strings.Join(ops, " "); got != denied {
				t.Errorf("%q is denied, want %q", got, denied)
			}
			if described := seen.ID != ""; described == strings.Contains(denied, "DescribeTable") {
				t.Error(seen)
			}
			calls := "DescribeTable GetItem GetItem PutItem PutItem"
			if strings.Contains(denied, "GetItem") {
				calls = "DescribeTable GetItem PutItem PutItem"
			}
			if got := stub.Calls(); got != calls || len(stub.Backup()) > 0 {
				t.Error(got, stub.Backup())
			}
		})
	}
}

// What is no matter of rights is the error, and a write that was made against its condition
// is the worst of it.
func TestLookFails(t *testing.T) {
	for _, test := range []struct {
		fault dynamotest.Fault
		is    error
		calls string
	}{
		{dynamotest.Fault{Op: "DescribeTable", Status: 400, Body: `{"__type":"ResourceNotFoundException"}`}, dynamostore.ErrNoTable, "DescribeTable"},
		{dynamotest.Fault{Op: "GetItem", Status: 500, Body: `{"__type":"InternalServerError"}`}, dynamostore.ErrUnavailable, "DescribeTable GetItem"},
		{dynamotest.Fault{Op: "PutItem", Status: 400, Body: `{"__type":"ValidationException"}`}, dynamostore.ErrRequest, "DescribeTable GetItem GetItem PutItem"},
		{dynamotest.Fault{Op: "PutItem", Status: 500, Body: `{"__type":"AccessDeniedException"}`}, dynamostore.ErrUnavailable, "DescribeTable GetItem GetItem PutItem"},
		{dynamotest.Fault{Op: "PutItem", Status: 200, Body: `{}`}, sharedmark.ErrRefused, "DescribeTable GetItem GetItem PutItem"},
	} {
		stub := dynamotest.New(t)
		stub.Fail(test.fault)
		seen, err := dynamostore.Look(t.Context(), onStub(stub))
		if got := stub.Calls(); !errors.Is(err, test.is) || len(seen.Denied) > 0 || got != test.calls {
			t.Errorf("%+v: %v after %s", test.fault, err, got)
		}
	}
}

// A role that is limited to the items of its chains may do there what a signer does, and one that
// is limited to those of others may not.
func TestLeadingKeys(t *testing.T) {
	for prefix, want := range map[string]string{"chain-1/": "", "chain-2/": "GetItem PutItem", "": ""} {
		stub := dynamotest.New(t)
		stub.Only(prefix)
		seen, err := dynamostore.Look(t.Context(), onStub(stub))
		var ops []string
		for _, e := range seen.Denied {
			ops = append(ops, e.Op)
		}
		if got := strings.Join(ops, " "); err != nil || got != want {
			t.Errorf("of a role for %q: %q is denied, %v", prefix, got, err)
		}
	}
}

// What is in the item is another's to judge, and nothing that is there is changed: not even where
// the table writes whatever the condition says.
func TestLookLeavesTheMark(t *testing.T) {
	stub := dynamotest.New(t)
	key := fmt.Sprintf("%s/%x", id.ChainID, id.Key)
	mark := map[string]dynamotest.Item{key: {"mark": {"S": key}, "value": {"S": "of another program"}}}
	stub.Restore(mark)
	if seen, err := dynamostore.Look(t.Context(), onStub(stub)); err != nil || len(seen.Denied) > 0 || seen.Took == 0 {
		t.Errorf("%+v, %v", seen, err)
	}
	stub.Blind = true
	if _, err := dynamostore.Look(t.Context(), onStub(stub)); !errors.Is(err, sharedmark.ErrRefused) {
		t.Error(err)
	}
	if now := stub.Backup(); len(now) != 2 || !maps.EqualFunc(now[key], mark[key], maps.Equal) {
		t.Errorf("%v", now)
	}
}

// looks looks at a table of others, empty and with the item that it asks for.
func looks(t *testing.T, c dynamostore.Config) {
	e := engine(t, c)
	look := func(want sharedmark.At) {
		t.Helper()
		seen, err := dynamostore.Look(t.Context(), c)
		if err != nil || seen.ID != c.TableID || len(seen.Denied) > 0 || seen.Took == 0 {
			t.Errorf("%+v, %v", seen, err)
		}
		if now, err := e.Read(t.Context()); err != nil || string(now.Value) != string(want.Value) || now.Revision != want.Revision {
			t.Error("something was written: ", now, err)
		}
	}
	look(sharedmark.At{})
	mark, _, err := e.Swap(t.Context(), sharedmark.At{}, []byte("mark"))
	if err != nil {
		t.Fatal(err)
	}
	look(mark)
}
