package policy

import (
	"errors"
	"strings"
	"testing"
)

// inTable returns a policy that has the marks in a table.
func inTable(t *testing.T) *Policy {
	t.Helper()
	p, err := ForAWS(key, false)
	if err != nil {
		t.Fatal(err)
	}
	p.DynamoDB = DynamoDB{Table: "marks", TableID: "0a-1", TableRegion: "eu-west-1"}
	if p.TableEndpoint, err = p.TableAt("eu-west-1"); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPolicyOfDynamoDB(t *testing.T) {
	p := inTable(t)
	if p.TableEndpoint != "dynamodb.eu-west-1.amazonaws.com:443" || p.ServerName() != "dynamodb.eu-west-1.amazonaws.com" || !p.Shared() {
		t.Errorf("%+v", p.DynamoDB)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(data, Nitro)
	if err != nil || again.DynamoDB != p.DynamoDB {
		t.Errorf("%+v, %v", again, err)
	}
	for key, change := range map[string]func(*Policy){
		"dynamodb_table":  func(p *Policy) { p.Table = "" },
		"dynamodb_table ": func(p *Policy) { p.Table = "my marks" },
		"dynamodb_table  ": func(p *Policy) {
			p.Etcd = Etcd{CA: p.TLSRoots, ServerNames: []string{"a"}, ClusterID: "00000000000000ff", Prefix: "/p"}
		},
		"dynamodb_table_id": func(p *Policy) { p.TableID = "" },
		"dynamodb_region":   func(p *Policy) { p.TableRegion = "eu" },
		"dynamodb_region ":  func(p *Policy) { p.TableRegion = "eu-west-1.evil.example" },
		"dynamodb_endpoint": func(p *Policy) { p.TableEndpoint = "" },
		// Who writes the policy of an image that others run has no way into their hosts.
		"dynamodb_endpoint ":     func(p *Policy) { p.TableEndpoint = "127.0.0.1:443" },
		"dynamodb_endpoint  ":    func(p *Policy) { p.TableEndpoint = "169.254.169.254:443" },
		"dynamodb_endpoint   ":   func(p *Policy) { p.TableEndpoint = "localhost:443" },
		"dynamodb_endpoint    ":  func(p *Policy) { p.TableEndpoint = "dynamodb.eu-west-1.amazonaws.com:8000" },
		"dynamodb_endpoint     ": func(p *Policy) { p.TableEndpoint = "https://dynamodb.eu-west-1.amazonaws.com" },
	} {
		p := inTable(t)
		change(p)
		_, err := p.Encode()
		if wrong, ok := errors.AsType[*KeyError](err); !ok || wrong.Key != strings.TrimSpace(key) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// Whoever answers as DynamoDB can answer with an old mark: it has to be AWS's, in that region.
func TestCheckTable(t *testing.T) {
	for name, ok := range map[string]bool{
		"dynamodb.eu-west-1.amazonaws.com":                                      true,
		"DynamoDB.eu-west-1.AMAZONAWS.com":                                      true,
		"dynamodb-fips.eu-west-1.amazonaws.com":                                 true,
		"dynamodb.eu-west-1.api.aws":                                            true,
		"111122223333.ddb.eu-west-1.amazonaws.com":                              true,
		"vpce-0123456789abcdef0-abcdefgh.dynamodb.eu-west-1.vpce.amazonaws.com": true,
		"dynamodb.us-east-1.amazonaws.com":                                      false,
		"kms.eu-west-1.amazonaws.com":                                           false,
		"11112222333a.ddb.eu-west-1.amazonaws.com":                              false,
		"111122223333.ddb.evil.example":                                         false,
		"abc123.execute-api.eu-west-1.amazonaws.com":                            false,
		"vpce-1.execute-api.eu-west-1.vpce.amazonaws.com":                       false,
		"dynamodb.eu-west-1.amazonaws.com.evil.example":                         false,
	} {
		p := inTable(t)
		p.TableEndpoint = name + ":443"
		if err := p.CheckTable(); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := inTable(t)
	p.TLSRoots += otherRoot(t)
	if err := p.CheckTable(); err == nil || !strings.Contains(err.Error(), "not one of Amazon Trust Services'") {
		t.Errorf("one root more: %v", err)
	}
	p = inTable(t)
	p.KMSKey = "arn:aws-iso:kms:us-iso-east-1:111122223333:key/1"
	if p.CheckTable() == nil {
		t.Error("in a partition that is not known")
	}
	if at, err := p.TableAt("us-iso-east-1"); err == nil {
		t.Errorf("its endpoint is %s", at)
	}
}
