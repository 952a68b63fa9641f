package cli

// Prefixed returns s behind a prefix, and "" for "".
func Prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
