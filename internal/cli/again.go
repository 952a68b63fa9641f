package cli

import (
	"os"
	"slices"
	"strings"

	"privyseal/internal/shell"
)

// Again returns the command line that was typed, with a flag more.
func Again(flag string) string { return typedWith(os.Args[1:], flag) }

// Instead returns the command line that was typed, with a flag in place of others; their
// map says which of those have a value.
func Instead(others map[string]bool, flag string) string {
	var args []string
	for i := 1; i < len(os.Args); i++ {
		name, _, given := strings.Cut(os.Args[i], "=")
		hasValue, other := others[name]
		switch {
		case name == "--":
			return typedWith(append(args, os.Args[i:]...), flag)
		case !other:
			args = append(args, os.Args[i])
		case hasValue && !given:
			i++
		}
	}
	return typedWith(args, flag)
}

// typedWith returns a command line of ours with a flag more.
func typedWith(args []string, flag string) string {
	args = slices.Clone(args)
	for i := range args {
		args[i] = shell.Word(args[i])
	}
	end := slices.Index(args, "--") // flags stand before it
	if end < 0 {
		end = len(args)
	}
	return "privyseal " + strings.Join(slices.Insert(args, end, flag), " ")
}
