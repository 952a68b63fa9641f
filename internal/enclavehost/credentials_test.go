package enclavehost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/hostlink"
	"privyseal/internal/secret"
)

// No way of printing shows them, wherever they stand.
func TestCredentialsAreNeverPrinted(t *testing.T) {
	source := fixed(time.Unix(1e9, 0))
	c, err := source.Credentials(t.Context())
	if err != nil || c.SecretAccessKey.Reveal() != "s3cr3t-access" {
		t.Fatal("the test has no secret")
	}
	values := []any{c, &c, source, []secret.AWS{c}, map[string]secret.AWS{"": c}, struct{ c secret.AWS }{c}, struct{ C *secret.AWS }{&c}, Config{KMS: &KMS{Credentials: source}}, &KMS{Credentials: source}}
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%U", "%b", "%o", "%e", "%p", "%w", "%z"} {
			fmt.Fprintf(&out, verb, v)
		}
		fmt.Fprint(&out, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("a", "v", v, slog.Group("g", slog.Any("v", v)))
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	for _, text := range []string{"s3cr3t", fmt.Sprintf("%x", "s3cr3t"), fmt.Sprintf("%X", "s3cr3t")} {
		if bytes.Contains(out.Bytes(), []byte(text)) {
			t.Errorf("%q was printed", text)
		}
	}
}

// sourceFunc finds credentials by a function.
type sourceFunc func() (secret.AWS, error)

func (f sourceFunc) Credentials(context.Context) (secret.AWS, error) { return f() }

// Without credentials an enclave whose keys are open is booted all the same; for
// one whose keys are not, the missing credentials are part of the reason.
func TestWithoutCredentials(t *testing.T) {
	m := newMachine(t)
	m.guestsAre(func(g *guest) {
		g.answer = func(b *hostlink.Boot) hostlink.Reply {
			s := &hostlink.Status{Boot: g.bootID, Policy: g.policy[:]}
			c := hostlink.ChainStatus{ID: "chain-1", KeyType: "tendermint/PubKeyEd25519", Public: []byte{9}}
			if b.Credentials.AccessKeyID == "" {
				c = hostlink.ChainStatus{ID: "chain-1", Problem: "KMS wants to know who asks"}
			}
			s.Chains = append(s.Chains, c)
			return hostlink.Reply{Status: s}
		}
	})
	s := m.setup()
	var calls atomic.Int64
	s.config.KMS.Credentials = sourceFunc(func() (secret.AWS, error) {
		if calls.Add(1) == 1 {
			return secret.AWS{}, errors.New("no role")
		}
		return fixed(time.Time{}).Credentials(t.Context())
	})
	s.run(t, quick)
	s.w.signs(t)
	want := []string{"the enclave refuses: KMS wants to know who asks\nno role", "signs with tendermint/PubKeyEd25519 09"}
	if diff := cmp.Diff(want, s.w.status); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
