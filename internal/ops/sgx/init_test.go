package sgx

import (
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/hostlink"
	"privyseal/internal/watermark"
)

// Only records come in as states, and what makes one is said.
func TestAccepts(t *testing.T) {
	mark := watermark.Mark{Height: 7, Step: watermark.StepPrevote}
	if err := (Holder{}).Accepts(mark); err == nil || !strings.Contains(err.Error(), "was not written by an enclave") || !strings.Contains(err.Error(), "\nfor a key from outside, `privyseal sgx make-backup`") {
		t.Error(err)
	}
	record, err := hostlink.Key{1}.Seal(watermark.ID{ChainID: "c"}, hostlink.Record{Seq: 1, Time: time.Unix(1, 0), Mark: mark})
	if err == nil {
		mark, err = hostlink.HostMark(record)
	}
	if err == nil {
		err = Holder{}.Accepts(mark)
	}
	if err != nil {
		t.Error(err)
	}
}

// Each enclave has an identity of its own, which its chains share.
func TestIdentityOf(t *testing.T) {
	chain := func(enclave, identity string) config.Chain {
		ch := config.NewChain("c", "c")
		ch.Table, ch.Identity = enclave, identity
		return ch
	}
	for _, c := range []struct {
		name   string
		chains []config.Chain
		want   string
	}{
		{"the first chain", nil, "identity.sealed"},
		{"chains that need none", []config.Chain{chain("main", ""), chain("other", "")}, "identity.sealed"},
		{"the second of an enclave", []config.Chain{chain("main", "mine.sealed")}, "mine.sealed"},
		{"after one that needs none", []config.Chain{chain("main", ""), chain("main", "mine.sealed")}, "mine.sealed"},
		{"the first of another enclave", []config.Chain{chain("other", "identity.sealed")}, "identity-main.sealed"},
		{"beside another name", []config.Chain{chain("other", "theirs.sealed")}, "identity.sealed"},
	} {
		if got := identityOf(c.chains, "main"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
