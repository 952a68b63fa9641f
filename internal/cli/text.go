package cli

import "time"

// Prefixed returns s with a prefix in front, and "" for "".
func Prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// ParseAt reads --at, which is now if it was not given.
func ParseAt(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, Usagef("--at %.40q is not a time as 2026-11-20T12:00:00Z", text)
	}
	return at, nil
}
