package config

import (
	"fmt"
	"strings"

	"privyseal/internal/watermark"
)

// ValidTable reports whether s is 1 to 40 of A-Z a-z 0-9 _ -: the name of a table of a
// provider.
func ValidTable(s string) bool {
	return ValidName(s) && len(s) <= 40 && !strings.Contains(s, ".")
}

// NameRule says what chain ids and names are made of.
const NameRule = "1 to 50 of A-Z a-z 0-9 . _ - that do not start with a dot"

// ValidName reports whether s may be the name of a chain or of a node. The rule is
// that of chain ids, beside which it appears in metrics and file names.
func ValidName(s string) bool { return watermark.ValidChainID(s) }

// CheckName says what is wrong with the name of a chain.
func CheckName(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("%.80q is not a name: %s", name, NameRule)
	}
	return nil
}

// CheckChainID says what is wrong with a chain id.
func CheckChainID(id string) error {
	if !watermark.ValidChainID(id) {
		return fmt.Errorf("%.80q is not a chain id: %s", id, NameRule)
	}
	return nil
}

// Quote returns s as a TOML basic string.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
