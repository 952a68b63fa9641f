package dynamostore

import (
	"errors"
	"testing"

	"privyseal/internal/sharedmark"
	"privyseal/internal/strictjson"
)

func TestItems(t *testing.T) {
	for text, want := range map[string]sharedmark.At{
		`{}`: {},
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"7"}}}`:                                         {Value: []byte("val"), Revision: 7},
		`{"ConsumedCapacity":1,"Item":{"revision":{"N":"18446744073709551615"},"mark":{"S":"k"},"value":{"B":"dmFs"}}}`: {Value: []byte("val"), Revision: 1<<64 - 1},
	} {
		if at, err := decode(t, text).at("k"); err != nil || string(at.Value) != string(want.Value) || at.Revision != want.Revision {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
	for _, text := range []string{
		`{"Item":{}}`,
		`{"Item":{"mark":{"S":"other"},"value":{"B":"dmFs"},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"B":"aw=="},"value":{"B":"dmFs"},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"S":"k","N":"1"},"value":{"B":"dmFs"},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"S":"dmFs"},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":""},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs","S":"x"},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"BS":["dmFs"]},"revision":{"N":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"S":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"7","S":"7"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"0"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"07"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"-1"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"7.5"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"18446744073709551616"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"7"},"ttl":{"N":"1"}}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":null}}`,
		`{"Item":{"mark":{"S":"k"},"value":{"B":"dmFs"}}}`,
	} {
		if at, err := decode(t, text).at("k"); !errors.Is(err, sharedmark.ErrForeign) || at.Value != nil {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
}

func decode(t *testing.T, text string) item {
	t.Helper()
	var a struct{ Item item }
	if err := strictjson.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(text, err)
	}
	return a.Item
}

func FuzzItem(f *testing.F) {
	f.Add([]byte(`{"mark":{"S":"k"},"value":{"B":"dmFs"},"revision":{"N":"7"}}`))
	f.Add([]byte(`{"mark":{"S":"k"},"value":{"B":"dmFs","S":""},"revision":{"N":"07"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var i item
		if strictjson.Unmarshal(text, &i) != nil || i == nil {
			return
		}
		if at, err := i.at("k"); err == nil && (at.Revision == 0 || len(at.Value) == 0 || len(at.Value) > maxValue) {
			t.Errorf("%s: %v", text, at)
		}
	})
}
