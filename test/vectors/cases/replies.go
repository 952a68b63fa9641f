package cases

import (
	"fmt"
	"os"
	"strings"
)

// Reply is one line of replies.txt: bytes that privyseal writes, and what a
// node must read in them.
type Reply struct {
	Name    string
	Kind    string // pubkey, vote, proposal, signbytes, error, ping
	Payload []byte
	Want    string // kind and fields, as [Describe] writes them
}

// Describe writes the kind and the fields of a reply; each field is a name and
// its value.
func Describe(kind string, fields ...[2]string) string {
	var s strings.Builder
	s.WriteString(kind)
	for _, f := range fields {
		fmt.Fprintf(&s, " %s=%s", f[0], f[1])
	}
	return s.String()
}

// DescribeError writes an error in the reply to a request of the given kind.
func DescribeError(reply string, code int32, description string) string {
	return Describe("error", [2]string{"reply", reply}, [2]string{"code", fmt.Sprint(code)}, [2]string{"description", description})
}

// ReadReplies reads the file that privyseal's own tests write and check.
func ReadReplies(path string) ([]Reply, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var replies []Reply
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := readReply(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		replies = append(replies, r)
	}
	if len(replies) == 0 {
		return nil, fmt.Errorf("%s: no replies", path)
	}
	return replies, nil
}

func readReply(line string) (Reply, error) {
	parts := strings.SplitN(line, " ", 4)
	if len(parts) < 3 {
		return Reply{}, fmt.Errorf("want name kind payload field=value…, got %q", line)
	}
	payload, err := Unhex(parts[2])
	if err != nil {
		return Reply{}, err
	}
	r := Reply{Name: parts[0], Kind: parts[1], Payload: payload, Want: parts[1]}
	if len(parts) == 4 {
		r.Want += " " + parts[3]
	}
	return r, nil
}

// WithoutExtension returns what a version without vote extensions reads.
func (r Reply) WithoutExtension() string {
	want, _, _ := strings.Cut(r.Want, " extension_signature=")
	return want
}
