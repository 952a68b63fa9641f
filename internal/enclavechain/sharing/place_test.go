package sharing

import (
	"context"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/secret"
)

var ofNitro = Words{Measured: "image", Build: "build an image", Policy: "privyseal nitro image-policy", Client: "nitro etcd-client"}

type nobody struct{}

func (nobody) Credentials(context.Context) (secret.AWS, error) { return secret.AWS{}, nil }
func (nobody) Refused(secret.AWS)                              {}

// Where config and measured policy disagree, nothing is signed, and the message says which
// of the two to change.
func TestMisplaced(t *testing.T) {
	table := policy.DynamoDB{Table: "marks", TableID: "0-1", TableRegion: "eu-west-1", TableEndpoint: "h:443"}
	members := &provider.Members{Endpoints: []string{"https://a:1"}}
	inTable := func(name, id string) *provider.Members {
		return &provider.Members{Role: nobody{}, Table: "table " + name + " of eu-west-1", Instance: id}
	}
	for _, c := range []struct {
		policy    policy.Policy
		members   *provider.Members
		why, cure string
	}{
		{policy.Policy{}, nil, "", ""},
		{policy.Policy{Etcd: policy.Etcd{CA: "x"}}, members, "", ""},
		{policy.Policy{DynamoDB: table}, inTable("marks", ""), "", ""},
		{policy.Policy{DynamoDB: table}, inTable("marks", "0-1"), "", ""},
		{policy.Policy{}, members, "the policy of the image names none", "image-policy --etcd-ca FILE"},
		{policy.Policy{}, inTable("marks", ""), "the policy of the image names none", "image-policy --dynamodb-table TABLE"},
		{policy.Policy{Etcd: policy.Etcd{CA: "x"}}, nil, "has the marks in etcd, and the state of chain c-1 is on this host", "state move --to etcd"},
		{policy.Policy{DynamoDB: table}, nil, "has the marks in DynamoDB, and the state of chain c-1 is on this host", "state move --to dynamodb"},
		{policy.Policy{Etcd: policy.Etcd{CA: "x"}}, inTable("marks", ""), "has the marks in etcd, and the state of chain c-1 is in another database", "state move --to etcd"},
		{policy.Policy{DynamoDB: table}, members, "has the marks in DynamoDB, and the state of chain c-1 is in another database", "state move --to dynamodb"},
		{policy.Policy{DynamoDB: table}, inTable("other", ""), "has the marks in table marks of eu-west-1, and the config that of chain c-1 in table other of eu-west-1", "correct [dynamodb.main]"},
		{policy.Policy{DynamoDB: table}, inTable("marks", "0-2"), "the TableId 0-1, and the config that of chain c-1 in 0-2", "correct [dynamodb.main]"},
	} {
		why, cure := ofNitro.Misplaced(&c.policy, config.Chain{ID: "c-1", StoreTable: "main"}, c.members)
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || !strings.Contains(cure, c.cure) {
			t.Errorf("%+v: %s; %s", c, why, cure)
		}
	}
}
