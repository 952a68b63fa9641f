package engines

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"

	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/enclave"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// someone is who the host is for AWS.
type someone struct{}

func (someone) Credentials(context.Context) (secret.AWS, error) {
	return secret.AWS{AccessKeyID: "AKIATEST", SecretAccessKey: secret.New("s3cr3t")}, nil
}
func (someone) Refused(secret.AWS) {}

// The table is the policy's: by its certificate, and by its id.
func TestTable(t *testing.T) {
	stub := dynamotest.New(t)
	at := strings.TrimPrefix(stub.URL, "https://")
	roots := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stub.Certificate().Raw}))
	const id = "11111111-0000-4000-8000-000000000001" // the stub's
	for name, c := range map[string]struct {
		roots, id string
		want      error
	}{
		"the policy's":         {roots, id, nil},
		"another certificate":  {policy.AWSRoots(), id, dynamostore.ErrTLS},
		"the same name, again": {roots, "11111111-0000-4000-8000-000000000002", dynamostore.ErrOtherTable},
	} {
		p := &policy.Policy{TLSRoots: c.roots, DynamoDB: policy.DynamoDB{Table: dynamotest.Table, TableID: c.id, TableRegion: "eu-central-1", TableEndpoint: at}}
		e, err := DynamoDB(enclave.Table{Policy: p, ID: watermark.ID{ChainID: "c-1"}, Role: someone{}, Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", at)
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, fresh, err := e.Ready(t.Context())
		if c.want == nil && (err != nil || !fresh) || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, fresh, err)
		}
		e.Close()
	}
}
