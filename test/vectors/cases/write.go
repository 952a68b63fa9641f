package cases

import (
	"bufio"
	"fmt"
	"io"
)

// Answer is what a version's own signer says about a request.
type Answer struct {
	SignBytes []byte // behind their length; nil for requests that sign nothing
	Extension []byte // sign bytes of the vote extension, nil if it gets no signature
	Err       error  // it refuses, or cannot read the request
	Panicked  bool   // it crashes
}

// Version is one version of CometBFT as the vectors need it.
type Version interface {
	// Name is the module and its version.
	Name() string
	// Encode returns the request as the node writes it, without the length in
	// front; ok is false where this version cannot say it.
	Encode(Case) (payload []byte, ok bool)
	// Answer decodes the payload and asks this version's signer.
	Answer(payload []byte) Answer
}

// Write writes the vectors of a version, one a line. README.md beside this
// package has the format.
func Write(w io.Writer, v Version) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "# Golden vectors of privval requests, made by %s.\n", v.Name())
	fmt.Fprintln(out, "# Do not edit: `make vectors` makes this file; test/vectors/README.md has the format.")
	fmt.Fprintln(out, "# name kind request sign-bytes extension-sign-bytes")
	for _, c := range All() {
		payload, ok := c.Raw, true
		if c.Raw == nil {
			payload, ok = v.Encode(c)
		}
		if !ok {
			continue
		}
		a := ask(v, payload)
		fmt.Fprintln(out, c.Name, c.Kind, Hex(payload), verdict(a), Hex(a.Extension))
	}
	return out.Flush()
}

func ask(v Version, payload []byte) (a Answer) {
	defer func() {
		if recover() != nil {
			a = Answer{Panicked: true}
		}
	}()
	return v.Answer(payload)
}

func verdict(a Answer) string {
	switch {
	case a.Panicked:
		return "panic"
	case a.Err != nil:
		return "error"
	}
	return Hex(a.SignBytes)
}
