package rig

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestPolicy reads testdata/policies.txt: policies, each with calls below it and
// what has to come of them.
func TestPolicy(t *testing.T) {
	text, err := os.ReadFile("testdata/policies.txt")
	if err != nil {
		t.Fatal(err)
	}
	var policy *keyPolicy
	var lines []string
	calls := 0
	for n, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "#") || line == "":
		case !strings.HasPrefix(line, "call "):
			if policy != nil {
				policy, lines = nil, nil
			}
			lines = append(lines, line)
		default:
			if policy == nil {
				if policy, err = parsePolicy([]byte(strings.Join(lines, "\n"))); err != nil {
					t.Fatalf("line %d: %v", n, err)
				}
			}
			calls++
			judge(t, n+1, policy, strings.Fields(line))
		}
	}
	if calls < 20 {
		t.Errorf("only %d calls were judged", calls)
	}
}

func judge(t *testing.T, line int, p *keyPolicy, words []string) {
	c := call{action: words[1], principal: words[2], key: "arn:aws:kms:eu-central-1:123456789012:key/1", context: map[string][]string{}}
	for _, w := range words[3 : len(words)-1] {
		name, value, _ := strings.Cut(w, "=")
		c.context[strings.ToLower(name)] = strings.Split(value, ",")
	}
	got := "granted"
	if err := p.allows(c); err != nil {
		got = "denied"
		if strings.Contains(err.Error(), "operator") {
			got = "error"
		}
	}
	if want := words[len(words)-1]; got != want {
		t.Errorf("line %d: %s, want %s (%v)", line, got, want, p.allows(c))
	}
}

func TestPolicyIsReadStrictly(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{"Statement":[{"Effect":"Perhaps"}]}`,
		`{"Statement":[{"Effect":"Allow","Principals":{"AWS":"*"}}]}`,
	} {
		if _, err := parsePolicy([]byte(text)); err == nil {
			t.Errorf("%s was taken", fmt.Sprintf("%.60q", text))
		}
	}
}
