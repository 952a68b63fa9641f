// Package awscredentials finds out who a process of this host is for AWS. What it returns is
// secret, and is kept in memory only.
package awscredentials

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

// lookTimeout bounds a look for credentials.
const lookTimeout = 20 * time.Second

// Static are credentials that the config holds.
type Static struct{ Value secret.AWS }

// Credentials returns them.
func (s Static) Credentials(context.Context) (secret.AWS, error) { return s.Value, nil }

// Chain finds credentials as every AWS tool does: in the environment, the
// shared files, a web identity, a container's or the instance's role, which is
// asked by IMDSv2 only.
type Chain struct {
	Region string // of the service that is called with them
	Cure   string // what to do where there are none
}

// Credentials looks for credentials each time, so that what was rotated is found.
func (d Chain) Credentials(ctx context.Context) (secret.AWS, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found, err := d.retrieve(ctx)
	if err != nil {
		return secret.AWS{}, fmt.Errorf("cannot find AWS credentials: %w; %s", err, d.Cure)
	}
	c := secret.AWS{AccessKeyID: found.AccessKeyID, SecretAccessKey: secret.New(found.SecretAccessKey), SessionToken: secret.New(found.SessionToken)}
	if found.CanExpire {
		c.Expires = found.Expires
	}
	return c, nil
}

func (d Chain) retrieve(ctx context.Context) (aws.Credentials, error) {
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
