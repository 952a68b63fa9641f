package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"privyseal/internal/pubkey"
)

// Inspection is what [Client.Inspect] found out.
type Inspection struct {
	Info
	Latency  time.Duration // of a signature, the middle one of three
	Findings []Finding
}

// Finding is something that works, and should not stay as it is.
type Finding struct {
	What string
	Next string // what to do about it, "" where that depends
}

// Inspect looks at a key with the eyes of who runs a validator: is it the expected one,
// does it sign, how long does that take, and who else could take the key, or do more with
// our token than sign? An error says that it cannot sign.
func (c *Client) Inspect(ctx context.Context, name string, version int, public pubkey.Key) (Inspection, error) {
	var in Inspection
	var err error
	if in.Info, err = c.Read(ctx, name); err != nil {
		return in, err
	}
	there, err := c.publicOf(in.Info, name, version)
	if err != nil {
		return in, err
	}
	if !there.Equal(public) {
		return in, c.wrongKey(c.keyRequest(name, "", ""), version, there, public)
	}
	if in.Latency, err = c.key(name, version, public).probe(ctx); err != nil {
		return in, err
	}
	in.Findings = in.settings(name, version, c.c.Mount)
	in.Findings = append(in.Findings, c.token(ctx, name)...)
	return in, nil
}

// probe signs what is no message of any chain, three times.
func (k *Key) probe(ctx context.Context) (time.Duration, error) {
	took := make([]time.Duration, 3)
	for i := range took {
		start := time.Now()
		if _, err := k.sign(ctx, []byte("privyseal: does this key sign?")); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[1], nil
}

// settings returns what is wrong with how the key is kept.
func (in *Inspection) settings(name string, version int, mount string) (list []Finding) {
	config := func(setting string) string {
		return fmt.Sprintf("as its administrator: `bao write %s/keys/%s/config %s`", mount, name, setting)
	}
	add := func(is bool, what, next string) {
		if is {
			list = append(list, Finding{what, next})
		}
	}
	const forGood = "that cannot be undone: make another key, or import this one again under another name"
	add(in.Exportable, "the key is exportable: who may read export/ takes it", forGood)
	add(in.AllowPlaintextBackup, "the key has allow_plaintext_backup: who may read backup/ takes it", forGood)
	add(in.DeletionAllowed, "the key has deletion_allowed", config("deletion_allowed=false"))
	add(in.SoftDeleted, "the key is marked as deleted", "")
	add(in.AutoRotatePeriod != 0, "the key rotates by itself: a validator has one key, and other versions are of no use", config("auto_rotate_period=0"))
	add(in.LatestVersion > version, fmt.Sprintf("the key was rotated: the latest version is %d, and %d is pinned, which still signs", in.LatestVersion, version), "")
	return list
}

// token returns what our token may do and need not.
func (c *Client) token(ctx context.Context, name string) []Finding {
	may, policies, err := c.capabilities(ctx, name)
	if err != nil {
		return []Finding{{"what the token may do cannot be checked: " + firstLine(err), `give it a policy with: path "sys/capabilities-self" { capabilities = ["update"] }`}}
	}
	var list []Finding
	for _, p := range c.powers(name, policies) {
		if slices.Contains(may[p.path], "root") {
			return []Finding{{"the token is a root token: it may do anything with the server", "give privyseal a token of its own that may sign and read, and nothing more"}}
		}
		var more []string
		for _, capability := range may[p.path] {
			if capability != "deny" && capability != p.needed {
				more = append(more, capability)
			}
		}
		if len(more) > 0 {
			list = append(list, Finding{fmt.Sprintf("the token may %s %s: %s", strings.Join(more, ", "), p.path, p.means), "take it out of the token's policies"})
		}
	}
	return list
}

// power is what somebody may do with a path.
type power struct{ path, needed, means string }

// powers are the paths that a token is asked about: all of transit that name a key, and
// what gives or takes rights on them.
func (c *Client) powers(name string, policies []string) []power {
	list := []power{
		{"sign/" + name, "update", "signing takes update alone"},
		{"keys/" + name, "read", "it could make or delete the key"},
		{"keys/" + name + "/config", "", "it could make the key exportable, or have it stop signing"},
		{"keys/" + name + "/rotate", "", "it could rotate the key"},
		{"keys/" + name + "/import", "", "it could import another key"},
		{"keys/" + name + "/import_version", "", "it could import another version"},
		{"keys/" + name + "/trim", "", "it could delete versions"},
		{"keys/" + name + "/soft-delete", "", "it could delete the key"},
		{"keys/" + name + "/csr", "", "it could have other things signed than votes"},
		{"keys/" + name + "/set-certificate", "", "it could change what is kept beside the key"},
		{"export/signing-key/" + name, "", "it could read the secret of an exportable key"},
		{"byok-export/" + name + "/" + name, "", "it could take out the secret of an exportable key"},
		{"backup/" + name, "", "it could read the secret of a key with plaintext backups"},
		{"restore/" + name, "", "it could put another key in its place"},
		{"derive-key/" + name, "", "signing does not need it"},
		{"hmac/" + name, "", "signing does not need it"},
		{"config/keys", "", "it could change settings of all keys"},
	}
	for i := range list {
		list[i].path = c.c.Mount + "/" + list[i].path
	}
	list = append(list, power{"sys/mounts/" + c.c.Mount, "", "it could remove the engine with all its keys"})
	for _, p := range policies {
		list = append(list, power{"sys/policies/acl/" + p, "", "it could give itself more rights"})
	}
	return list
}

// capabilities returns what our token may do with the paths of powers, and the names of
// its policies, where it may ask for them.
func (c *Client) capabilities(ctx context.Context, name string) (may map[string][]string, policies []string, err error) {
	var self struct {
		Policies         []string `json:"policies"`
		IdentityPolicies []string `json:"identity_policies"`
	}
	if c.call(ctx, request{what: "token", method: "GET", path: "auth/token/lookup-self"}, &self) == nil {
		policies = append(self.Policies, self.IdentityPolicies...)
	}
	var paths []string
	for _, p := range c.powers(name, policies) {
		paths = append(paths, p.path)
	}
	r := request{what: "token", method: "POST", path: "sys/capabilities-self", body: map[string]any{"paths": paths}}
	if err := c.call(ctx, r, &may); err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		if len(may[path]) == 0 {
			return nil, nil, c.fail(r, malformed, "it does not name "+path)
		}
	}
	return may, policies, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
