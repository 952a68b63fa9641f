package cli

// Prefixed returns s with a prefix in front, and "" for "".
func Prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
