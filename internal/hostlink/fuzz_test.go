package hostlink

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"privyseal/internal/watermark"
)

// What a hostile host asks for is one thing, whose values are bounded in number,
// and which means the same when it is written again.
func FuzzRequest(f *testing.F) {
	for _, text := range []string{
		`{"hello":{}}`, `{"hello":{},"boot":{}}`, `{}`, `null`, `{"attest":{"chain_id":"chain-1","nonce":"AAEC"}}`,
		`{"boot":{"credentials":{"expires":"2026-01-01T00:00:00Z"},"chains":[{"id":"chain-1","nodes":[{"name":"a","addr":"unix:///a"}]}],"log_level":"info"}}`,
		`{"import":{"chain_id":"chain-1","height":-1,"step":3,"fresh":true}}`,
		`{"share":{"do":"join","chain_id":"chain-1","wrapped":"AA==","etcd":{"endpoints":["https://10.0.0.1:2379"],"key":"AA==","certificate":"AA=="}}}`,
		`{"cloud_wrap":{"nonce":"AAEC"}}`, `{"recover":{"chain_id":"chain-1","public":"AA==","wrap_key":"AA==","encrypted":"AA==","backup":"AA==","check":true}}`,
		`{"recover":{},"cloud_wrap":{}}`, `{"sample":{"chain_id":"chain-1","public":"AA==","credentials":{"access_key_id":"A"}}}`, `{"sample":{},"hello":{}}`, `{"certify":{"key":"AA==","name":"signer"}}`, `{"certify":{},"share":{}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := RawRequest(text).Decode()
		if err != nil {
			return
		}
		if bytes.Count(text, []byte(",")) > maxValues {
			t.Fatal("more values than an enclave has memory for")
		}
		written, err := json.Marshal(req)
		if err != nil {
			return // years that JSON has no form for
		}
		again, err := RawRequest(written).Decode()
		if err != nil {
			t.Fatalf("%q was read, and %q is not: %v", text, written, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(written, twice) {
			t.Fatalf("read\n%s\nas\n%s\n%v", written, twice, err)
		}
	})
}

// stream is a connection whose other end says what a fuzzer likes.
type stream struct {
	io.Reader
	io.Writer
}

func says(payload []byte) stream {
	var frame bytes.Buffer
	if writeFrame(&frame, payload) != nil {
		return stream{bytes.NewReader(nil), io.Discard}
	}
	return stream{&frame, io.Discard}
}

// What answers is no better: an enclave may be anybody's.
func FuzzReply(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `{"error":"no"}`, `{"error":"no","cure":"yes","document":"AA=="}`, `{"created":{}}`,
		`{"status":{"version":"1","chains":[{"id":"chain-1"}]}}`, `{} {}`,
		`{"answers":[{"call":"Decrypt","raw":"SFRUUC8xLjEgMjAwIE9LDQo=","error":"no"},{"call":"Decrypt"}]}`, `{"answers":[{"plaintext":"AA=="}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		reply, err := Call(says(text), Request{Hello: &Hello{}})
		if reply.Error != "" {
			t.Fatalf("%q is no refusal, but %+v, %v", text, reply, err)
		}
	})
}

// The opening of a state means one state, and no other bytes mean the same.
func FuzzReadStateOpen(f *testing.F) {
	f.Add(append([]byte{frameOpen}, append(testID.Key[:], testID.ChainID...)...))
	f.Add([]byte{frameOpen})
	f.Fuzz(func(t *testing.T, frame []byte) {
		id, err := ReadStateOpen(says(frame))
		if err != nil {
			return
		}
		if len(id.ChainID) == 0 || len(id.ChainID) > watermark.MaxChainID {
			t.Fatalf("a chain id of %d bytes", len(id.ChainID))
		}
		if again := append(append([]byte{frameOpen}, id.Key[:]...), id.ChainID...); !bytes.Equal(again, frame) {
			t.Fatalf("%x opens what %x opens", frame, again)
		}
	})
}

func FuzzReadNodeHello(f *testing.F) {
	f.Add([]byte(`{"chain_id":"chain-1","node":"a"}`))
	f.Add([]byte(`{"chain_id":"chain-1","node":"a","more":1}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		hello, err := ReadNodeHello(says(frame))
		if err != nil {
			return
		}
		var sent bytes.Buffer
		// The host's answer, an empty frame, is what the enclave reads first.
		if err := OpenNode(stream{bytes.NewReader(make([]byte, 4)), &sent}, hello); err != nil {
			t.Fatal(err)
		}
		if again, err := ReadNodeHello(&sent); err != nil || again != hello {
			t.Fatalf("%q came back as %+v, %v", frame, again, err)
		}
	})
}

func FuzzReadEtcdHello(f *testing.F) {
	f.Add([]byte(`{"address":"10.0.0.1:2379"}`))
	f.Add([]byte(`{"address":"10.0.0.1:2379","Address":"10.0.0.2:2379"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		hello, err := ReadEtcdHello(says(frame))
		if err != nil {
			return
		}
		var sent bytes.Buffer
		if err := OpenEtcd(stream{bytes.NewReader(make([]byte, 4)), &sent}, hello); err != nil {
			t.Fatal(err)
		}
		if again, err := ReadEtcdHello(&sent); err != nil || again != hello {
			t.Fatalf("%q came back as %+v, %v", frame, again, err)
		}
	})
}

// Each line says one thing, and is no longer than a line may be.
func FuzzReadLines(f *testing.F) {
	f.Add([]byte(`{"log":{"level":"INFO","message":"m","attrs":[["k","v"]]}}` + "\n" + `{"node":{"chain_id":"c","node":"a","state":"serving"}}` + "\n"))
	f.Add([]byte(`{"event":{"chain_id":"c","node":"a","kind":"prevote"}}`))
	f.Add([]byte(`{"event":{},"log":{}}`))
	f.Add(bytes.Repeat([]byte{' '}, maxLine+1))
	f.Fuzz(func(t *testing.T, text []byte) {
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if len(line) > maxLine && ReadLines(bytes.NewReader(line), func(Line) {}) == nil {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
		ReadLines(bytes.NewReader(text), func(l Line) {
			if l.Log == nil && l.Event == nil && l.Node == nil {
				t.Fatal("a line that says nothing")
			}
			written, err := l.Encode()
			if err != nil {
				return // longer than it came: some characters take six bytes in JSON
			}
			read := 0
			err = ReadLines(bytes.NewReader(written), func(again Line) {
				read++
				if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, written) {
					t.Fatalf("%q came back as %q, %v", written, twice, err)
				}
			})
			if err != nil || read != 1 {
				t.Fatalf("%q is %d lines, %v", written, read, err)
			}
		})
	})
}
