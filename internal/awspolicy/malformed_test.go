package awspolicy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Policies that are not well formed, line by line: a statement in which one part is
// replaced, as a Go string where it has bytes that no editor shows. Nothing of it may
// read as if the image were asked for.
func TestMalformed(t *testing.T) {
	table(t, "malformed.txt", 2, func(cells []string) string {
		part, text := cells[0], cells[1]
		if strings.HasPrefix(text, `"\`) {
			unquoted, err := strconv.Unquote(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			text = unquoted
		}
		return outcome(t, malformed(t, part, text))
	})
}

// malformed returns a good policy, an Allow and a Deny of the same form, with one part
// replaced.
func malformed(t *testing.T, part, text string) []byte {
	t.Helper()
	parts := map[string]string{
		"principal": `"Principal":{"AWS":"` + hostRole + `"}`, "action": `"Action":"kms:Decrypt"`, "resource": `"Resource":"*"`,
		"condition": `"Condition":{"StringEquals":{"kms:RecipientAttestation:PCR0":"A0"}}`,
		"denied":    `"Principal":"*","Action":"kms:Encrypt","Resource":"*"`, "top": `"Version":"2012-10-17"`, "tail": "",
	}
	if _, ok := parts[part]; !ok && part != "all" {
		t.Fatalf("there is no part %q", part)
	}
	parts[part] = text
	policy := `{` + parts["top"] + `,"Statement":[{"Effect":"Allow",` + parts["principal"] + `,` + parts["action"] + `,` + parts["resource"] + `,` + parts["condition"] +
		`},{"Effect":"Allow","Principal":{"AWS":"` + hostRole + `"},"Action":"kms:Encrypt","Resource":"*"},{"Effect":"Deny",` + parts["denied"] + `}]}` + parts["tail"]
	if part == "all" {
		policy = text
	}
	return []byte(strings.NewReplacer(`"A0"`, `"`+expand("A0")+`"`, `"C0"`, `"`+expand("C0")+`"`).Replace(policy))
}

// outcome says in a word or two what Check makes of a policy.
func outcome(t *testing.T, policy []byte) string {
	t.Helper()
	found, err := Check(policy, []Image{image(0xa0)})
	if err != nil {
		return "error: " + strings.TrimPrefix(err.Error(), "cannot read the key policy: ")
	}
	var words []string
	for _, f := range found {
		word := kindWords[f.Kind]
		if f.Kind == Unclear {
			word += " (" + strings.TrimPrefix(f.Text, "not understood: ") + ")"
		}
		words = append(words, word)
	}
	if words == nil {
		return "nobody"
	}
	return strings.Join(slices.Compact(words), ", ")
}

// A policy has to end somewhere.
func TestBounds(t *testing.T) {
	deep := []byte(`{"Statement":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`)
	if got := outcome(t, deep); !strings.Contains(got, "nested too deep") {
		t.Errorf("nested: %s", got)
	}
	good := malformed(t, "tail", "")
	padded := append(bytes.Clone(good), bytes.Repeat([]byte(" "), maxPolicy-len(good))...)
	if got := outcome(t, padded); got != "enclave" {
		t.Errorf("%d bytes: %s", len(padded), got)
	}
	if got := outcome(t, append(padded, ' ')); got != fmt.Sprintf("error: it has more than %d bytes", maxPolicy) {
		t.Errorf("a byte more: %s", got)
	}
}

// The policy that we print has to be one that AWS takes: 32 KiB.
func TestTooManyImages(t *testing.T) {
	p := KeyPolicy{Role: role}
	for n := range 250 {
		im := image(0)
		im.PCR0 = bytes.Repeat([]byte{byte(n), byte(n >> 8), 1}, 16)
		p.Images = append(p.Images, im)
	}
	text, err := p.JSON()
	if err == nil || !strings.Contains(err.Error(), "32768") {
		t.Errorf("%d bytes: %v", len(text), err)
	}
	p.Images = p.Images[:60]
	if text, err := p.JSON(); err != nil || len(text) > 32768 {
		t.Errorf("%d bytes: %v", len(text), err)
	}
}
