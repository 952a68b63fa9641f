package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

// Inspection is what [Client.Inspect] found out.
type Inspection struct {
	Info
	Latency  time.Duration // of a signature, the middle one of three
	Findings []Finding
}

// Finding is something that works, and should not stay as it is.
type Finding struct {
	Bad  bool // somebody could take the key, or do more with our token than sign
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

// probe signs what is not a message of any chain, three times.
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
	add := func(is, bad bool, what, next string) {
		if is {
			list = append(list, Finding{bad, what, next})
		}
	}
	const forGood = "that cannot be undone: make another key, or import this one again under another name"
	add(in.Exportable, true, "the key is exportable: whoever may read export/ can take it", forGood)
	add(in.AllowPlaintextBackup, true, "the key has allow_plaintext_backup: whoever may read backup/ can take it", forGood)
	add(in.DeletionAllowed, true, "the key has deletion_allowed", config("deletion_allowed=false"))
	add(in.SoftDeleted, true, "the key is marked as deleted", "")
	add(in.AutoRotatePeriod != 0, false, "the key rotates by itself: a validator has one key, and other versions are of no use", config("auto_rotate_period=0"))
	add(in.LatestVersion > version, false, fmt.Sprintf("the key was rotated: the latest version is %d, and %d is pinned, which still signs", in.LatestVersion, version), "")
	return list
}

// token returns what our token may do and need not, and whether it ends.
func (c *Client) token(ctx context.Context, name string) (list []Finding) {
	self, err := c.lookUpSelf(ctx)
	if err == nil && self.TTL > 0 && !self.Renewable && c.c.TokenFile != "" {
		list = append(list, Finding{false, fmt.Sprintf("the token expires in %v, and cannot be renewed", time.Duration(self.TTL)*time.Second), "write a new one to " + shell.Word(c.c.TokenFile) + " before; it is read without a restart"})
	}
	powers := c.powers(name, append(self.Policies, self.IdentityPolicies...))
	may, err := c.capabilities(ctx, powers)
	if err != nil {
		return append(list, Finding{false, "what the token may do cannot be checked: " + firstLine(err), `give it a policy with: path "sys/capabilities-self" { capabilities = ["update"] }`})
	}
	for _, p := range powers {
		if slices.Contains(may[p.path], "root") {
			return append(list, Finding{true, "the token is a root token: it may do anything with the server", "give privyseal a token of its own that may sign and read, and nothing more"})
		}
		var more []string
		for _, capability := range may[p.path] {
			if !p.allows(capability) {
				more = append(more, capability)
			}
		}
		if len(more) > 0 {
			list = append(list, Finding{true, fmt.Sprintf("the token may %s %s: %s", strings.Join(more, ", "), p.path, p.means), "take it out of the token's policies"})
		}
	}
	return list
}

// power is what somebody may do with a path, beside reading it: most paths have nothing
// to read.
type power struct {
	path   string
	needed string // the capability that signing takes, "" for none
	reads  bool   // who may read it takes something
	means  string
}

// allows reports whether a capability on the path is needed or does no harm.
func (p power) allows(capability string) bool {
	return slices.Contains([]string{"deny", "list", p.needed}, capability) || capability == "read" && !p.reads
}

// powers are the paths that a token is asked about: all of transit that name a key, and
// what gives or takes rights on them.
func (c *Client) powers(name string, policies []string) []power {
	list := []power{
		{"sign/" + name, "update", false, "signing needs update only"},
		{"keys/" + name, "", false, "it could make or delete the key"},
		{"keys/" + name + "/config", "", false, "it could make the key exportable, or have it stop signing"},
		{"keys/" + name + "/rotate", "", false, "it could rotate the key"},
		{"keys/" + name + "/import", "", false, "it could import another key"},
		{"keys/" + name + "/import_version", "", false, "it could import another version"},
		{"keys/" + name + "/trim", "", false, "it could delete versions"},
		{"keys/" + name + "/soft-delete", "", false, "it could delete the key"},
		{"keys/" + name + "/csr", "", false, "it could have other things signed than votes"},
		{"keys/" + name + "/set-certificate", "", false, "it could change what is kept beside the key"},
		{"export/signing-key/" + name, "", true, "it could read the secret of an exportable key"},
		{"byok-export/" + name + "/" + name, "", true, "it could take out the secret of an exportable key"},
		{"backup/" + name, "", true, "it could read the secret of a key with plaintext backups"},
		{"restore/" + name, "", false, "it could put another key in its place"},
		{"derive-key/" + name, "", false, "signing does not need it"},
		{"hmac/" + name, "", false, "signing does not need it"},
		{"config/keys", "", false, "it could change settings of all keys"},
	}
	for i := range list {
		list[i].path = c.c.Mount + "/" + list[i].path
	}
	list = append(list, power{"sys/mounts/" + c.c.Mount, "", false, "it could remove the engine with all its keys"})
	for _, p := range policies {
		list = append(list, power{"sys/policies/acl/" + p, "", false, "it could give itself more rights"})
	}
	return list
}

// capabilities returns what our token may do with the paths of powers.
func (c *Client) capabilities(ctx context.Context, powers []power) (may map[string][]string, err error) {
	paths := make([]string, len(powers))
	for i, p := range powers {
		paths[i] = p.path
	}
	r := request{what: "token", method: "POST", path: "sys/capabilities-self", body: map[string]any{"paths": paths}}
	if err := c.call(ctx, r, &may); err != nil {
		return nil, err
	}
	for _, path := range paths {
		if len(may[path]) == 0 {
			return nil, c.fail(r, malformed, "it does not name "+path)
		}
	}
	return may, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (c *Client) lookUpSelf(ctx context.Context) (t self, err error) {
	err = c.call(ctx, selfRequest, &t)
	return t, err
}
