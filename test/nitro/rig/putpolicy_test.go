package rig

import (
	"strings"
	"testing"
)

// What KMS makes of a policy that somebody puts.
func TestPutKeyPolicy(t *testing.T) {
	const admin, role = "arn:aws:iam::123456789012:user/admin", "arn:aws:iam::123456789012:role/validator"
	root := `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:PutKeyPolicy", "Resource": "*"}`
	with := func(statement string) string {
		return `{"Version": "2012-10-17", "Statement": [` + root + `, ` + statement + `]}`
	}
	allow := func(principal, action string) string {
		return `{"Effect": "Allow", "Principal": ` + principal + `, "Action": "` + action + `", "Resource": "*"}`
	}
	for name, c := range map[string]struct{ policy, want string }{
		"the least":              {`{"Version": "2012-10-17", "Statement": ` + root + `}`, ""},
		"a role":                 {with(allow(`{"AWS": "`+role+`"}`, "kms:Decrypt")), ""},
		"everybody":              {with(allow(`"*"`, "kms:Decrypt")), ""},
		"an account":             {with(allow(`{"AWS": "444455556666"}`, "kms:*")), ""},
		"a service":              {with(allow(`{"Service": "ec2.amazonaws.com"}`, "kms:Decrypt")), ""},
		"all actions":            {with(allow(`{"AWS": "*"}`, "*")), ""},
		"a role that is new":     {with(allow(`{"AWS": "`+role+`2"}`, "kms:Decrypt")), "invalid principals: " + role + "2"},
		"a role of any name":     {with(allow(`{"AWS": "arn:aws:iam::123456789012:role/*"}`, "kms:Decrypt")), "invalid principals"},
		"an action that is none": {with(allow(`"*"`, "kms:Decipher")), `unsupported action "kms:Decipher"`},
		"another service's":      {with(allow(`"*"`, "s3:GetObject")), "unsupported action"},
		"no principal":           {with(`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}`), "without Principal"},
		"no action":              {with(`{"Effect": "Allow", "Principal": "*", "Resource": "*"}`), "without Action"},
		"no resource":            {with(`{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt"}`), "without Resource"},
		"another element":        {with(`{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*", "Why": ""}`), "unknown field"},
		"no version":             {`{"Statement": [` + root + `]}`, "Version"},
		"no JSON":                {`{`, "MalformedPolicyDocumentException"},
		"nobody may change it":   {`{"Version": "2012-10-17", "Statement": [` + allow(`"*"`, "kms:Decrypt") + `]}`, "will not allow you to update the key policy"},
		"another may change it":  {`{"Version": "2012-10-17", "Statement": [` + allow(`{"AWS": "`+role+`"}`, "kms:*") + `]}`, "will not allow you"},
		"it is denied":           {with(`{"Effect": "Deny", "Principal": "*", "Action": "kms:Put*", "Resource": "*"}`), "will not allow you"},
		"as large as it may be":  {`{"Version": "2012-10-17", "Statement": [` + root + `]` + strings.Repeat(" ", maxKeyPolicy-len(root)-42) + `}`, ""},
		"a byte more":            {`{"Version": "2012-10-17", "Statement": [` + root + `]` + strings.Repeat(" ", maxKeyPolicy-len(root)-41) + `}`, "LimitExceededException"},
	} {
		p := Put{Caller: admin, Key: testKey, Exists: func(arn string) bool { return arn == role || arn == admin }}
		err := p.Check([]byte(c.policy))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s (%d bytes): %v", name, len(c.policy), err)
		}
		if strings.HasPrefix(c.want, "will not allow") {
			p.Bypass = true
			if err := p.Check([]byte(c.policy)); err != nil {
				t.Errorf("%s, and that is meant: %v", name, err)
			}
		}
	}
}
