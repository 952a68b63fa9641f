package main

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/awspolicy"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/eif"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/policy"
)

// policyFileFlags are the flags of `privyseal nitro policy-file`.
type policyFileFlags struct {
	kmsKey, endpoint, serverName string
	tlsRoots, attestationRoot    string
	fips                         bool
	chains, publicKeys, floors   []string
	maxHeight                    int64
	signBytes, rawBytes          bool
}

func newNitroPolicyFileCommand() *cobra.Command {
	f := &policyFileFlags{}
	cmd := &cobra.Command{
		Use:   "policy-file --kms-key ARN",
		Short: "Print the policy that goes into an enclave image",
		Long: `Print the policy file for "privyseal nitro build": what decides the enclave's
security, and is measured with it. Redirect it to a file, and keep that file: with
it anybody can compute PCR2.

The endpoint is AWS's public one of the key's region, or with --fips the FIPS one.
For a private (VPC) endpoint name it with --endpoint; the name in its certificate
stays that of the public one unless --server-name says otherwise. The roots are
Amazon Trust Services' unless --tls-roots names others.

What could never work is refused: an endpoint that is no host[:port], a name that no
certificate has, a chain id or a public key that is none, a --state-floor of a chain
that --chain leaves out, or not below --max-height.`,
		Example: "  privyseal nitro policy-file --kms-key arn:aws:kms:eu-central-1:111122223333:key/… > policy.json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.policy()
			if err != nil {
				return err
			}
			data, err := p.Encode()
			if err != nil {
				return cli.Usage(byFlag(err))
			}
			warnTestPolicy(cmd.ErrOrStderr(), p)
			if strings.Contains(p.KMSKey, ":key/mrk-") {
				fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: this is a KMS key of many regions: its replicas have key policies of their own, and what they let in gets the validator's key; make one of one region")
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kmsKey, "kms-key", "", "ARN of the KMS key that wraps the enclave's keys")
	fl.StringVar(&f.endpoint, "endpoint", "", "host[:port] of KMS, if not AWS's public one")
	fl.StringVar(&f.serverName, "server-name", "", "name in the certificate of the endpoint")
	fl.BoolVar(&f.fips, "fips", false, "the FIPS endpoint of the region")
	fl.StringVar(&f.tlsRoots, "tls-roots", "", "PEM file of the roots above that certificate (default: Amazon Trust Services)")
	fl.StringVar(&f.attestationRoot, "attestation-root", "", "PEM file of another root of attestation documents; for tests only")
	fl.StringArrayVar(&f.chains, "chain", nil, "chain that may be signed for (default: any that the wrapped key names); may be repeated")
	fl.StringArrayVar(&f.publicKeys, "public-key", nil, "public key that may sign, as init printed it (default: any); may be repeated")
	fl.Int64Var(&f.maxHeight, "max-height", 0, "highest height that is ever signed; 0 is no bound")
	fl.StringArrayVar(&f.floors, "state-floor", nil, "CHAIN=HEIGHT: nothing at or below it is signed, and a lost state may be made anew above it; may be repeated")
	fl.BoolVar(&f.signBytes, "allow-sign-bytes", false, "let nodes have bytes of their choice signed (CometBFT v1, v2)")
	fl.BoolVar(&f.rawBytes, "allow-raw-bytes", false, "the same for Celestia")
	return cmd
}

// testPolicy says why documents of an image with this policy prove nothing; nil for
// one of production.
func testPolicy(p *policy.Policy) (why []string) {
	if p.AttestationRoot != "" {
		why = append(why, "this image is for tests: its policy names an attestation root that is not AWS's, so that its documents prove nothing")
	}
	if err := p.CheckKMS(); err != nil {
		why = append(why, fmt.Sprintf("this image is for tests: its policy believes a KMS that is not known to be AWS's (%v), and whoever runs that knows every key", err))
	}
	return why
}

func warnTestPolicy(w io.Writer, p *policy.Policy) {
	for _, why := range testPolicy(p) {
		fmt.Fprintln(w, "WARNING: "+why)
	}
}

// byFlag names the flag of `privyseal nitro policy-file` in place of the key of
// the file.
func byFlag(err error) error {
	var k *policy.KeyError
	if !errors.As(err, &k) {
		return err
	}
	flags := map[string]string{"kms_endpoint": "endpoint", "kms_server_name": "server-name", "chains": "chain", "public_keys": "public-key"}
	return fmt.Errorf("--%s: %w", cmp.Or(flags[k.Key], strings.ReplaceAll(k.Key, "_", "-")), k.Err)
}

func (f *policyFileFlags) policy() (*policy.Policy, error) {
	if f.kmsKey == "" {
		return nil, cli.Usagef("--kms-key ARN is missing, as in --kms-key arn:aws:kms:eu-central-1:111122223333:key/…")
	}
	p, err := policy.ForAWS(f.kmsKey, f.fips)
	if err != nil {
		if f.endpoint == "" || f.fips {
			return nil, cli.Usage(byFlag(err))
		}
		p = &policy.Policy{KMSKey: f.kmsKey, TLSRoots: policy.AWSRoots()}
	}
	if f.endpoint != "" {
		var host string
		if p.KMSEndpoint, host, err = withPort(f.endpoint); err != nil {
			return nil, cli.Usagef("--endpoint: %w", err)
		}
		if p.KMSServerName == "" && f.serverName == "" && net.ParseIP(host) != nil {
			return nil, cli.Usagef("--server-name NAME is missing: the name in the certificate of %s", f.endpoint)
		}
		p.KMSServerName = cmp.Or(p.KMSServerName, host)
	}
	p.KMSServerName = cmp.Or(f.serverName, p.KMSServerName)
	// Both flags may name one file.
	for _, root := range []struct {
		flag, path string
		to         *string
	}{{"tls-roots", f.tlsRoots, &p.TLSRoots}, {"attestation-root", f.attestationRoot, &p.AttestationRoot}} {
		if root.path == "" {
			continue
		}
		data, err := cli.ReadBounded(root.path, policy.MaxSize)
		if err != nil {
			return nil, cli.OfFlag(root.flag, err)
		}
		*root.to = string(data)
	}
	p.Chains, p.MaxHeight = f.chains, f.maxHeight
	p.AllowSignBytes, p.AllowRawBytes = f.signBytes, f.rawBytes
	for _, text := range f.publicKeys {
		key, err := cli.ParsePublicKey(text)
		if err != nil {
			return nil, cli.Usagef("--public-key %.80s: %w", text, err)
		}
		p.PublicKeys = append(p.PublicKeys, base64.StdEncoding.EncodeToString(key.Bytes()))
	}
	p.StateFloor, err = parseFloors(f.floors)
	return p, err
}

// withPort reads host[:port], where IPv6 may stand in brackets, and returns it with
// the port of HTTPS if it has none.
func withPort(endpoint string) (full, host string, err error) {
	host, _, err = net.SplitHostPort(endpoint)
	if err == nil {
		return endpoint, host, nil
	}
	host = strings.TrimSuffix(strings.TrimPrefix(endpoint, "["), "]")
	if full = net.JoinHostPort(host, "443"); strings.ContainsAny(host, "/[]@") {
		return "", "", fmt.Errorf("%q is not host[:port], as in kms.eu-central-1.amazonaws.com", endpoint)
	}
	return full, host, nil
}

// parseFloors reads CHAIN=HEIGHT.
func parseFloors(texts []string) (map[string]int64, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	floors := map[string]int64{}
	for _, text := range texts {
		id, number, _ := strings.Cut(text, "=")
		height, err := strconv.ParseInt(number, 10, 64)
		if err != nil || height < 1 || config.CheckChainID(id) != nil {
			return nil, cli.Usagef("--state-floor %s is not CHAIN=HEIGHT", text)
		}
		if first, twice := floors[id]; twice {
			return nil, cli.Usagef("--state-floor gives chain %s two floors, %d and %d; give it one", id, first, height)
		}
		floors[id] = height
	}
	return floors, nil
}

// keyPolicyFlags are the flags of `privyseal nitro policy`.
type keyPolicyFlags struct {
	role, eif, instance, check string
	also, admins               []string
	parts, signed, debug       bool
	withoutPCR0                bool
	chainIDs, publicKeys       []string
}

func newNitroPolicyCommand() *cobra.Command {
	f := &keyPolicyFlags{}
	cmd := &cobra.Command{
		Use:   "policy (--role ARN --eif FILE | --check FILE)",
		Short: "Print the policy of the KMS key, or judge one",
		Long: `Print the key policy of the KMS key that wraps the enclave's keys: the role of the
instance may use it in the image --eif only (PCR0), on an instance with that role
(PCR3); nobody else may use it at all.

--pcr1-pcr2 and --pcr8 ask for the image's parts (kernel and program; policy) and
for the certificate that signed it as well. With --without-pcr0 they say alone which
image it is: --pcr1-pcr2 admits what PCR0 admits, by parts that others can compare;
--pcr8 admits every image that the owner of the signing key ever signs, so that an
upgrade needs no new policy, and that key opens the validator's. --instance binds to
one instance: then the key is lost with that instance.

After "privyseal init" has printed the public keys, pin them with --chain-id and
--public-key (the consensus key's, and the identity's if there is one): then the
KMS key opens nothing else.

--also lets a second image in, for an upgrade; take it out again afterwards.
--debug prints a policy for an enclave in debug mode, whose memory and console its
host can read: for trying things out, with a KMS key that guards nothing.

--check FILE reads what "aws kms get-key-policy" printed and names everybody who
can get around the enclave, replace the policy, or end the KMS key. Name the image
with --eif (and --also during an upgrade), or any image that the policy names passes.
The exit status is 1 if somebody gets around it, if it may run for another account
with no PCR3 to say on whose instance, or if something is not understood. It is 0
with those whom the policy trusts, and names: who may replace it or end the KMS key
(but not everybody, a service, or the enclave's own role, by its name, by a condition
or by PCR3), and who signs images where PCR8 alone admits them.`,
		Example: `  privyseal nitro policy --role arn:aws:iam::111122223333:role/validator --eif privyseal.eif > key-policy.json
  aws kms get-key-policy --key-id … --policy-name default > now.json; privyseal nitro policy --check now.json --eif privyseal.eif`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("check") {
				return f.runCheck(cmd.Flags(), cmd.OutOrStdout())
			}
			return f.print(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.role, "role", "", "ARN of the instance's IAM role")
	fl.StringVar(&f.eif, "eif", "", "the enclave's image")
	fl.StringArrayVar(&f.also, "also", nil, "another image that may use the key, for an upgrade; may be repeated")
	fl.StringArrayVar(&f.admins, "admin", nil, "ARN that may change and delete the key (default: whoever the KMS key's account lets); may be repeated")
	fl.BoolVar(&f.parts, "pcr1-pcr2", false, "name kernel and program (PCR1) and policy (PCR2) too")
	fl.BoolVar(&f.signed, "pcr8", false, "name the certificate that signed the image too")
	fl.BoolVar(&f.withoutPCR0, "without-pcr0", false, "do not name the whole image: --pcr1-pcr2 or --pcr8 name it alone")
	fl.StringVar(&f.instance, "instance", "", "id of the only instance that may use the key; the key is lost with it")
	fl.BoolVar(&f.debug, "debug", false, "for an enclave in debug mode, which guards nothing")
	fl.StringArrayVar(&f.chainIDs, "chain-id", nil, "pin the keys: their chain; may be repeated")
	fl.StringArrayVar(&f.publicKeys, "public-key", nil, "pin the keys: a public key, as init printed it; may be repeated")
	fl.StringVar(&f.check, "check", "", "judge the key policy in this file")
	return cmd
}

// images returns the measurements of --eif and --also.
func (f *keyPolicyFlags) images() (list []awspolicy.Image, err error) {
	paths := f.also
	if f.eif != "" {
		paths = append([]string{f.eif}, paths...)
	}
	for _, path := range paths {
		im, err := readImage(path)
		if err != nil {
			return nil, err
		}
		list = append(list, imageOf(im.Measure()))
	}
	return list, nil
}

func imageOf(m eif.Measurements) awspolicy.Image {
	return awspolicy.Image{PCR0: m.PCR0[:], PCR1: m.PCR1[:], PCR2: m.PCR2[:], PCR8: m.PCR8[:]}
}

func (f *keyPolicyFlags) print(stdout, stderr io.Writer) error {
	switch {
	case f.role == "":
		return cli.Usagef("--role ARN is missing: the IAM role of the instance")
	case f.eif == "" && !f.debug:
		return cli.Usagef("--eif FILE is missing: the image that may use the key")
	case f.debug && (len(f.also) > 0 || f.signed || f.withoutPCR0):
		return cli.Usagef("in debug mode PCR0, PCR1 and PCR2 of any image are zero: --also, --pcr8 and --without-pcr0 mean nothing there")
	case f.withoutPCR0 && !f.parts && !f.signed:
		return cli.Usagef("--without-pcr0 goes with --pcr1-pcr2 or --pcr8, which then say which image is admitted")
	}
	images, err := f.images()
	if err != nil {
		return err
	}
	if f.debug {
		images = []awspolicy.Image{imageOf(eif.Measurements{})}
	}
	p := awspolicy.KeyPolicy{Role: f.role, Admins: f.admins, Images: images, Parts: f.parts, Signed: f.signed, WithoutPCR0: f.withoutPCR0, Instance: f.instance}
	own, err := f.measuredPolicy()
	if err != nil {
		return err
	}
	if err := f.pin(&p, own); err != nil {
		return err
	}
	if len(p.Admins) == 0 && own != nil {
		key := strings.Split(own.KMSKey, ":")
		p.Admins = []string{"arn:" + key[1] + ":iam::" + key[4] + ":root"}
	}
	data, err := p.JSON()
	if err != nil {
		return cli.Usage(err)
	}
	if own != nil {
		if err := f.compareRole(own.KMSKey, stderr); err != nil {
			return err
		}
	}
	if f.debug {
		fmt.Fprintln(stderr, "WARNING: with this policy the KMS key serves any enclave in debug mode, whose memory and console its host can read. Never wrap a validator's key under it.")
	}
	fmt.Fprintln(stderr, f.admits())
	if f.instance != "" {
		fmt.Fprintf(stderr, "warning: what is wrapped under this policy opens on instance %s only; when that is terminated, the key is lost unless an administrator has changed the policy before\n", f.instance)
	}
	if len(f.publicKeys) == 0 {
		fmt.Fprintln(stderr, "note: no key is pinned yet; after init, add --chain-id and --public-key and put the policy again")
	}
	if len(f.also) > 0 && !f.bySigner() {
		fmt.Fprintln(stderr, "note: every image in it can use the key; take the old one out once the new one signs")
	}
	_, err = stdout.Write(data)
	return err
}

// bySigner reports whether the signature alone admits an image.
func (f *keyPolicyFlags) bySigner() bool { return f.withoutPCR0 && !f.parts }

// admits says which images a policy of these flags lets in.
func (f *keyPolicyFlags) admits() string {
	switch {
	case f.debug:
		return "note: admitted is any image, in debug mode only"
	case f.bySigner():
		return "WARNING: admitted is every image signed with this certificate (PCR8), now and later, old ones with known faults among them. Whoever has its private key can have the validator's key: guard it like that, off the instance. Images in debug mode are denied."
	case f.withoutPCR0 && f.signed:
		return "note: admitted is an image of this kernel, command line and program (PCR1) and this policy (PCR2), signed with this certificate (PCR8)"
	case f.withoutPCR0:
		return "note: admitted is an image of this kernel, command line and program (PCR1) and this policy (PCR2): what PCR0 would admit"
	case f.signed:
		return "note: admitted is this image only (PCR0), and only as signed with this certificate (PCR8)"
	}
	return "note: admitted is this image only (PCR0)"
}

// measuredPolicy returns the policy in the image of --eif, nil if there is none.
func (f *keyPolicyFlags) measuredPolicy() (*policy.Policy, error) {
	if f.eif == "" {
		return nil, nil
	}
	im, err := readImage(f.eif)
	if err != nil {
		return nil, err
	}
	return imagePolicy(im)
}

// compareRole holds the role, whose ARN is one, against the KMS key of the image:
// another account needs a policy more, and no role of another partition gets in.
func (f *keyPolicyFlags) compareRole(kmsKey string, stderr io.Writer) error {
	key, role := strings.Split(kmsKey, ":"), strings.Split(f.role, ":")
	if role[1] != key[1] {
		return cli.Usagef("--role is of the partition %s, and the KMS key of the image, %s, of %s", role[1], kmsKey, key[1])
	}
	if role[4] != key[4] {
		fmt.Fprintf(stderr, "note: the KMS key is in account %s, the role in %s; give the role an IAM policy in its own account too, for kms:Decrypt and kms:GenerateDataKey on %s\n", key[4], role[4], kmsKey)
	}
	return nil
}

// pin fills in the encryption context of the pinned keys. An identity is wrapped
// for no chain, and so the image's policy does not name it. own is that policy, nil
// if it is not known.
func (f *keyPolicyFlags) pin(p *awspolicy.KeyPolicy, own *policy.Policy) error {
	if (len(f.publicKeys) == 0) != (len(f.chainIDs) == 0) {
		return cli.Usagef("--chain-id and --public-key pin keys together")
	}
	p.Context, p.Optional = map[string][]string{}, map[string][]string{}
	add := func(to map[string][]string, name, value string) {
		if !slices.Contains(to[name], value) {
			to[name] = append(to[name], value)
		}
	}
	for _, id := range f.chainIDs {
		if err := config.CheckChainID(id); err != nil {
			return cli.Usagef("--chain-id: %w", err)
		}
		if own != nil && !own.AllowsChain(id) {
			return cli.Usagef("--chain-id %s is not in the measured policy of %s, which has %s: nothing is signed for it", id, f.eif, strings.Join(own.Chains, ", "))
		}
	}
	for _, text := range f.publicKeys {
		key, err := cli.ParsePublicKey(text)
		if err != nil {
			return cli.Usagef("--public-key: %w", err)
		}
		for name, value := range nitrokms.EncryptionContext("", key.Bytes()) {
			add(p.Context, name, value)
		}
		for _, chain := range f.chainIDs {
			for name, value := range nitrokms.EncryptionContext(chain, key.Bytes()) {
				if _, always := p.Context[name]; !always {
					add(p.Optional, name, value)
				}
			}
		}
	}
	return nil
}

// runCheck judges a policy.
func (f *keyPolicyFlags) runCheck(set *pflag.FlagSet, w io.Writer) error {
	for _, name := range []string{"role", "instance", "admin", "pcr1-pcr2", "pcr8", "without-pcr0", "debug", "chain-id", "public-key"} {
		if set.Changed(name) {
			return cli.Usagef("--%s is for printing a policy; --check judges all that stands in the file, against --eif and --also only: leave --%s out, and read the lines", name, name)
		}
	}
	text, err := cli.ReadBounded(f.check, 1<<20)
	if err != nil {
		return err
	}
	images, err := f.images()
	if err != nil {
		return err
	}
	found, err := awspolicy.Check(text, images)
	if err != nil {
		return fmt.Errorf("%s: %w", f.check, err)
	}
	count := map[awspolicy.Kind]int{}
	words := map[awspolicy.Kind]string{awspolicy.Enclave: "ok  ", awspolicy.Signer: "ok  ", awspolicy.Destroy: "--  ", awspolicy.Rewrite: "--  ", awspolicy.Unclear: "FAIL", awspolicy.Bypass: "FAIL"}
	var b strings.Builder
	for _, x := range found {
		count[x.Kind]++
		who := ""
		if x.Who != "" {
			who = fmt.Sprintf("%s may %s: ", x.Who, strings.Join(x.Actions, ", "))
		}
		fmt.Fprintf(&b, "%s  %s: %s%s\n", words[x.Kind], x.Statement, who, x.Text)
	}
	if count[awspolicy.Enclave]+count[awspolicy.Signer] == 0 {
		b.WriteString("--    no enclave may use the key: nothing would ever be signed with it\n")
	}
	if len(images) == 0 {
		b.WriteString(`--    no image was named (--eif FILE): WHICH image is admitted was not checked. Exit
      status 0 then says only that nobody gets in but in an image that the policy names
`)
	}
	b.WriteString(`--    not in a key policy, so not checked: grants (aws kms list-grants), and that the
      key is of origin AWS_KMS and of one region (aws kms describe-key)
`)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if n := count[awspolicy.Bypass] + count[awspolicy.Unclear]; n > 0 {
		return fmt.Errorf("%s around the enclave, or that may be; put a policy of `privyseal nitro policy` in its place", cure.Count(n, "way"))
	}
	return nil
}
