package enclavehost

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
)

// keeper hands out credentials, numbered, and others once those are refused.
type keeper struct {
	mu      sync.Mutex
	n       int
	problem error
}

func (k *keeper) Credentials(context.Context) (secret.AWS, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return secret.AWS{AccessKeyID: "AKIA" + strings.Repeat("I", k.n), SecretAccessKey: secret.New("s")}, k.problem
}

func (k *keeper) Refused(secret.AWS) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n++
}

// An enclave whose policy has the marks in DynamoDB is connected to the endpoint of the policy,
// whatever it sends, and given the credentials of the table when it asks for them.
func TestTable(t *testing.T) {
	m := newMachine(t)
	boots := make(chan *hostlink.Boot, 100)
	m.guestsAre(func(g *guest) { g.boots = boots })
	s := m.setup()
	role := &keeper{}
	s.config.DynamoDB = &DynamoDB{
		Endpoint: policy.Endpoint{Service: "DynamoDB", Address: node(t, "tcp", "127.0.0.1:0"), Test: true}, Try: 300 * time.Millisecond, Role: role,
	}
	g := m.launched(s)
	if b := <-boots; b.DynamoDB == nil || b.DynamoDB.Try != 300*time.Millisecond || b.Etcd != nil {
		t.Errorf("booted with %+v", b)
	}
	conn := g.mustDial(hostlink.TablePort)
	conn.Write([]byte("to 127.0.0.1:22"))
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "tcpto 127.0.0.1:22" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	ask := func(refused string) (secret.AWS, error) {
		conn := g.mustDial(hostlink.RolePort)
		defer conn.Close()
		return hostlink.AskRole(conn, hostlink.RoleHello{Refused: refused})
	}
	for _, c := range []struct{ refused, want string }{{"", "AKIA"}, {"AKIA-OTHER", "AKIA"}, {"AKIA", "AKIAI"}, {"AKIA", "AKIAI"}} {
		if got, err := ask(c.refused); err != nil || got.AccessKeyID != c.want || got.SecretAccessKey.Reveal() != "s" {
			t.Errorf("%+v: %s, %v", c, got.AccessKeyID, err)
		}
	}
	role.mu.Lock()
	role.problem = errors.New("no role is attached")
	role.mu.Unlock()
	if got, err := ask(""); err == nil || !strings.Contains(err.Error(), "no role is attached") {
		t.Errorf("%s, %v", got.AccessKeyID, err)
	}
	if strings.Contains(s.logs.String(), "AKIA") {
		t.Errorf("the log:\n%s", s.logs.String())
	}
}

// Who has the marks elsewhere has neither port, and nobody is given credentials.
func TestTableOfThePolicy(t *testing.T) {
	serves := func(c Config, number uint32) bool {
		return slices.ContainsFunc((&Host{Config: c}).ports(), func(p port) bool { return p.number == number })
	}
	for _, number := range []uint32{hostlink.TablePort, hostlink.RolePort} {
		if serves(Config{}, number) || serves(Config{Etcd: &Etcd{}}, number) || !serves(Config{DynamoDB: &DynamoDB{}}, number) {
			t.Errorf("port %d", number)
		}
	}
}
