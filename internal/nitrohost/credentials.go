package nitrohost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"privyseal/internal/hostlink"
)

// Credentials are AWS credentials that no log can show: they print as their
// expiry, whatever prints them, and have no JSON.
type Credentials struct {
	// A function, since fmt looks into every other field by itself when the
	// struct around it has no method.
	reveal  func() hostlink.Credentials
	expires time.Time
}

// NewCredentials hides c.
func NewCredentials(c hostlink.Credentials) Credentials {
	return Credentials{reveal: func() hostlink.Credentials { return c }, expires: c.Expires}
}

// Reveal returns them for a request to an enclave, and for nothing else.
func (c Credentials) Reveal() hostlink.Credentials {
	if c.reveal == nil {
		return hostlink.Credentials{}
	}
	return c.reveal()
}

// Expires returns when they end to be valid, zero for never.
func (c Credentials) Expires() time.Time { return c.expires }

// String gives the expiry only.
func (c Credentials) String() string {
	if c.expires.IsZero() {
		return "credentials without expiry"
	}
	return "credentials until " + c.expires.UTC().Format(time.RFC3339)
}

// Format implements fmt.Formatter, for every verb.
func (c Credentials) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue implements slog.LogValuer.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON refuses.
func (c Credentials) MarshalJSON() ([]byte, error) {
	return nil, errors.New("credentials are not written anywhere")
}

// credentialsTimeout bounds a look for credentials.
const credentialsTimeout = 20 * time.Second

// Static are credentials that the config holds.
type Static struct{ Value Credentials }

// Credentials returns them.
func (s Static) Credentials(context.Context) (Credentials, error) { return s.Value, nil }

// DefaultChain finds credentials as every AWS tool does: in the environment, the
// shared files, a web identity, a container's or the instance's role, which is
// asked by IMDSv2 only.
type DefaultChain struct {
	Region string // of the KMS key
}

// Credentials looks for credentials each time, so that what was rotated is found.
func (d DefaultChain) Credentials(ctx context.Context) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	found, err := d.retrieve(ctx)
	if err != nil {
		return Credentials{}, fmt.Errorf("cannot find AWS credentials: %w; attach a role to the instance that the KMS key's policy names; or name them for this command by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and in a config that is there by [enclave.NAME.credentials]", err)
	}
	c := hostlink.Credentials{AccessKeyID: found.AccessKeyID, SecretAccessKey: found.SecretAccessKey, SessionToken: found.SessionToken}
	if found.CanExpire {
		c.Expires = found.Expires
	}
	return NewCredentials(c), nil
}

func (d DefaultChain) retrieve(ctx context.Context) (aws.Credentials, error) {
	// Once without credentials, for what the environment says about IMDS.
	plain, err := config.LoadDefaultConfig(ctx, config.WithRegion(d.Region), config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	if err != nil {
		return aws.Credentials{}, err
	}
	metadata := imds.NewFromConfig(plain, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(d.Region),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = metadata }))
	if err != nil {
		return aws.Credentials{}, err
	}
	return cfg.Credentials.Retrieve(ctx)
}
