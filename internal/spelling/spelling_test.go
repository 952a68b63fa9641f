package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"state", "state", 0}, {"state", "stake", 1}, {"state", "sate", 1}, {"state", "states", 1},
		{"kitten", "sitting", 3}, {"ab", "ba", 2}, {"sunday", "saturday", 3}, {"listen", "silent", 4},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("from %q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if back := Distance(tt.b, tt.a); back != tt.want {
			t.Errorf("from %q to %q: %d, want %d", tt.b, tt.a, back, tt.want)
		}
	}
}

func TestNear(t *testing.T) {
	list := []string{"provider", "state", "store"}
	for typed, want := range map[string]string{"stat": "state", "sotre": "store", "stoe": "store", "provider": "provider", "stattes": "state", "pro": "", "": ""} {
		if got := Near(typed, list); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}
