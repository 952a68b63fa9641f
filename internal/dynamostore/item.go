package dynamostore

import (
	"encoding/json"
	"fmt"
	"strconv"

	"privyseal/internal/sharedmark"
	"privyseal/internal/strictjson"
)

// Names in the table: the partition key, and what an item has beside it.
const (
	keyName      = "mark"
	valueName    = "value"
	revisionName = "revision"
)

// maxValue bounds in bytes a value. Records have less than 600.
const maxValue = 4 << 10

// attribute is a value of DynamoDB: one of these.
type attribute struct {
	S *string `json:",omitempty"`
	N *string `json:",omitempty"`
	B []byte  `json:",omitempty"`
}

// item is what an answer has of an item, to be decoded where its shape is judged; nil:
// there is none.
type item map[string]json.RawMessage

// foreign says that an item is not one of ours.
func foreign(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %s", sharedmark.ErrRefused, sharedmark.ErrForeign, fmt.Sprintf(format, args...))
}

// at returns the value of an item that has to have a key.
func (i item) at(key string) (at sharedmark.At, err error) {
	if i == nil {
		return at, nil
	}
	var k, v, n attribute
	for name, a := range map[string]*attribute{keyName: &k, valueName: &v, revisionName: &n} {
		if err := strictjson.Decode(i[name], a); err != nil {
			return at, foreign("the item %.100q has no attribute %s as ours has", key, name)
		}
	}
	switch {
	case len(i) != 3:
		return at, foreign("the item %.100q has %d attributes", key, len(i))
	case k.S == nil || *k.S != key || k.N != nil || k.B != nil:
		return at, foreign("the answer is not about the item %.100q", key)
	case v.B == nil || v.S != nil || v.N != nil || len(v.B) == 0 || len(v.B) > maxValue:
		return at, foreign("the item %.100q has a value of %d bytes", key, len(v.B))
	case n.N == nil || n.S != nil || n.B != nil:
		return at, foreign("the item %.100q has no number as its revision", key)
	}
	at.Value = v.B
	at.Revision, err = strconv.ParseUint(*n.N, 10, 64)
	if err != nil || at.Revision == 0 || strconv.FormatUint(at.Revision, 10) != *n.N {
		return sharedmark.At{}, foreign("the item %.100q has an odd revision", key)
	}
	return at, nil
}

// Requests, as the DynamoDB API has them (version 20120810).
type (
	tableRequest struct{ TableName string }
	getRequest   struct {
		TableName      string
		Key            map[string]attribute
		ConsistentRead bool
	}
	putRequest struct {
		TableName                           string
		Item                                map[string]attribute
		ConditionExpression                 string
		ExpressionAttributeNames            map[string]string
		ExpressionAttributeValues           map[string]attribute `json:",omitempty"`
		ReturnValuesOnConditionCheckFailure string               `json:",omitempty"`
	}
)

func keyOf(item string) map[string]attribute { return map[string]attribute{keyName: {S: &item}} }

func number(n uint64) attribute {
	text := strconv.FormatUint(n, 10)
	return attribute{N: &text}
}

// put returns the request that writes next where old is.
func put(table, item string, old, next sharedmark.At) putRequest {
	p := putRequest{
		TableName:                           table,
		Item:                                map[string]attribute{keyName: {S: &item}, valueName: {B: next.Value}, revisionName: number(next.Revision)},
		ConditionExpression:                 "attribute_not_exists(#k)",
		ExpressionAttributeNames:            map[string]string{"#k": keyName},
		ReturnValuesOnConditionCheckFailure: "ALL_OLD",
	}
	if old.Value != nil {
		// The revision alone is not enough: in a restored table it repeats, with other values.
		p.ConditionExpression = "#v = :v AND #n = :n"
		p.ExpressionAttributeNames = map[string]string{"#v": valueName, "#n": revisionName}
		p.ExpressionAttributeValues = map[string]attribute{":v": {B: old.Value}, ":n": number(old.Revision)}
	}
	return p
}
