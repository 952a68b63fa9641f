// Package dynamodb is the store of states that several hosts share in a table of Amazon
// DynamoDB, as the operator's side meets it. How a mark is kept there, and what makes that
// safe, is internal/sharedmark; how the table is called is internal/dynamostore's.
package dynamodb

import (
	"context"
	"time"

	"privyseal/internal/awscredentials"
	"privyseal/internal/config"
	"privyseal/internal/dynamostore"
	"privyseal/internal/provider"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

// name is the first name of [dynamodb.NAME], and the key by which a chain names one.
const name = "dynamodb"

// minTry is below the round trip to a region of the same continent.
const minTry = 50 * time.Millisecond

// table is one [dynamodb.NAME].
type table struct {
	Table, Region, TableID, Endpoint string
	AllowPlainHTTP                   bool
	Try                              config.Duration
	Credentials                      credentials

	kept *awscredentials.Kept // of all who use the table, made by Fill
}

// credentials are those of AWS that do not change; the zero value is those that the AWS SDK
// finds.
type credentials struct {
	AccessKeyID                   string
	SecretAccessKey, SessionToken secret.Text // the second may be ""
}

// options are the keys of [dynamodb.NAME].
var options = config.Options[table]{
	{Name: "table", Of: func(t *table) any { return &t.Table }, Required: true, Comment: "name of the table, whose partition key is \"mark\" of type S"},
	{Name: "region", Of: func(t *table) any { return &t.Region }, Required: true, Comment: "region of AWS that it is in, such as eu-central-1"},
	{Name: "table_id", Of: func(t *table) any { return &t.TableID }, Comment: "its TableId: a table that was made again, or restored from a backup, has another one and is refused"},
	{Name: "endpoint", Of: func(t *table) any { return &t.Endpoint }, Comment: "https://HOST[:PORT] in place of the region's, for a VPC endpoint with a name of its own"},
	{Name: "allow_plain_http", Of: func(t *table) any { return &t.AllowPlainHTTP }, Comment: "accept an http:// endpoint beyond loopback: anybody on the network path can stop the signer, or have it sign twice"},
	{Name: "try", Of: func(t *table) any { return &t.Try }, Standard: dynamostore.DefaultTry.String(), Example: dynamostore.DefaultTry.String(), Comment: "how long one call is waited for, 50ms to 2s; then it is made again"},
	{Name: "credentials.access_key_id", Of: func(t *table) any { return &t.Credentials.AccessKeyID }, Required: true, FileOnly: true,
		More: "Credentials that are used in place of those that the AWS SDK finds: environment, shared files, web identity, the instance's role. With them the config must have mode 0600 or stricter."},
	{Name: "credentials.secret_access_key", Of: func(t *table) any { return &t.Credentials.SecretAccessKey }, Required: true, FileOnly: true, More: "Its secret."},
	{Name: "credentials.session_token", Of: func(t *table) any { return &t.Credentials.SessionToken }, FileOnly: true, More: "Of credentials that expire."},
}

// kind is what a config has of tables.
func kind() config.Kind {
	return config.Kind{Table: name, Noun: "a table of DynamoDB", Keys: options.Keys(), Decode: decode}
}

func decode(values map[string]any, fail func(key, wrong string)) config.Section {
	t := &table{}
	options.Decode(t, values, fail)
	return t
}

// Fill implements [config.Section].
func (t *table) Fill(written func(key string) bool) {
	options.Fill(t, written)
	t.kept = &awscredentials.Kept{Source: source{t}}
}

// Render implements [config.Section].
func (t *table) Render(w *config.Lines) { options.Render(t, w) }

// Secret implements [config.Section].
func (t *table) Secret() (key string, secret bool) { return options.Secret(t) }

// Check implements [config.Section].
func (t *table) Check(written func(key string) bool, fail func(key, wrong string)) {
	if !options.Check(t, written, fail) {
		return
	}
	if t.Try.Duration < minTry || t.Try.Duration > dynamostore.MaxTry {
		fail("try", "is not from "+minTry.String()+" to "+dynamostore.MaxTry.String())
		return
	}
	t.of(watermark.ID{}).Check(fail)
}

// of returns how the mark of a key is reached.
func (t *table) of(id watermark.ID) dynamostore.Config {
	return dynamostore.Config{
		Table: t.Table, Region: t.Region, TableID: t.TableID, Endpoint: t.Endpoint, AllowPlain: t.AllowPlainHTTP,
		ID: id, Credentials: t.kept, Try: t.Try.Duration,
	}
}

// Members implements [provider.Carried].
func (t *table) Members(func(string) string) provider.Members {
	return provider.Members{Try: t.Try.Duration, Role: t.kept, Table: "table " + t.Table + " of " + t.Region, Instance: t.TableID}
}

// source finds the credentials for a table.
type source struct{ of *table }

// noRole is what to do where there are none.
const noRole = "give this host a role that may use the table; or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this command, or [" + name + ".NAME.credentials] in the config"

// Credentials implements [awscredentials.Source].
func (s source) Credentials(ctx context.Context) (secret.AWS, error) {
	if c := s.of.Credentials; c.AccessKeyID != "" {
		return secret.AWS{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}, nil
	}
	return awscredentials.Chain{Region: s.of.Region, Cure: noRole}.Credentials(ctx)
}
