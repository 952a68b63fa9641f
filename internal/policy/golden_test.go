package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// What the policies of Nitro's images measure to has been the same since they exist: an image
// that is built again has the PCR2 that it had.
func TestNitroPoliciesAreAsTheyWere(t *testing.T) {
	start, err := ForAWS(key, false)
	if err != nil {
		t.Fatal(err)
	}
	table := full(t)
	table.Etcd = Etcd{}
	table.DynamoDB = DynamoDB{Table: "marks", TableID: "12345678-1234-1234-1234-123456789012", TableRegion: "eu-central-1", TableEndpoint: "dynamodb.eu-central-1.amazonaws.com:443"}
	for name, c := range map[string]struct {
		policy *Policy
		digest string
	}{
		"a start":       {start, "d3009a9bfe8f6fc256227a70fd4830688f84c27e9bc91c3760a187a9ec918cb2"},
		"with etcd":     {full(t), "d91c2cba4701514f1e09260a5d4d20f62922cb7346a36532a929c7eb5e0f01e0"},
		"with DynamoDB": {table, "e513066cb388b3ef0fef7c613b282ef02b91623b74ff803c38cf1421bdc78166"},
	} {
		data, err := c.policy.Encode()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		if got := hex.EncodeToString(sum[:]); got != c.digest {
			t.Errorf("%s: %s, and it was %s", name, got, c.digest)
		}
	}
}
