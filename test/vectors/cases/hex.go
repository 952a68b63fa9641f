package cases

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// shortestRun is how many equal bytes in a row are written as a run.
const shortestRun = 8

// Hex returns b as lower-case hex in which eight or more equal bytes in a row
// stand as (bb*N), N decimal. No bytes at all are "-".
func Hex(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	var s strings.Builder
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n] == b[0] {
			n++
		}
		if n >= shortestRun {
			fmt.Fprintf(&s, "(%02x*%d)", b[0], n)
		} else {
			s.WriteString(strings.Repeat(hex.EncodeToString(b[:1]), n))
		}
		b = b[n:]
	}
	return s.String()
}

var run = regexp.MustCompile(`\(([0-9a-f]{2})\*([0-9]+)\)`)

// Unhex reads what Hex wrote.
func Unhex(s string) ([]byte, error) {
	if s == "-" {
		return nil, nil
	}
	s = run.ReplaceAllStringFunc(s, func(r string) string {
		m := run.FindStringSubmatch(r)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
	return hex.DecodeString(s)
}
