package nitrohost

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"privyseal/internal/secret"
)

// credentialsTimeout bounds a look for credentials.
const credentialsTimeout = 20 * time.Second

// Static are credentials that the config holds.
type Static struct{ Value secret.AWS }

// Credentials returns them.
func (s Static) Credentials(context.Context) (secret.AWS, error) { return s.Value, nil }

// DefaultChain finds credentials as every AWS tool does: in the environment, the
// shared files, a web identity, a container's or the instance's role, which is
// asked by IMDSv2 only.
type DefaultChain struct {
	Region string // of the KMS key
}

// Credentials looks for credentials each time, so that what was rotated is found.
func (d DefaultChain) Credentials(ctx context.Context) (secret.AWS, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	found, err := d.retrieve(ctx)
	if err != nil {
		return secret.AWS{}, fmt.Errorf("cannot find AWS credentials: %w; attach to the instance a role that the KMS key's policy names; or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this command, or [enclave.NAME.credentials] in the config if there is one", err)
	}
	c := secret.AWS{AccessKeyID: found.AccessKeyID, SecretAccessKey: secret.New(found.SecretAccessKey), SessionToken: secret.New(found.SessionToken)}
	if found.CanExpire {
		c.Expires = found.Expires
	}
	return c, nil
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
