package image

import (
	"fmt"
	"io"
	"slices"
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
	"privyseal/internal/pubkey/keytext"
)

// keyPolicyFlags are the flags of `privyseal nitro key-policy`.
type keyPolicyFlags struct {
	role, eif, instance, check string
	also, admins               []string
	parts, signed, debug       bool
	withoutPCR0                bool
	chainIDs, publicKeys       []string
}

func NewKeyPolicy() *cobra.Command {
	f := &keyPolicyFlags{}
	cmd := &cobra.Command{
		Use:   "key-policy (--role ARN --eif FILE | --check FILE)",
		Short: "Print the policy of the KMS key, or check one",
		Long: `Print the key policy of the KMS key that wraps the enclave's keys: the role of the
instance may use it in the image --eif only (PCR0), on an instance with that role
(PCR3); nobody else may use it at all.

--pcr1-pcr2 and --pcr8 ask for the image's parts (kernel and program; policy) and
for the certificate that signed it as well. With --without-pcr0 they alone decide which
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
		Example: `  privyseal nitro key-policy --role arn:aws:iam::111122223333:role/validator --eif privyseal.eif > key-policy.json
  aws kms get-key-policy --key-id … --policy-name default > now.json; privyseal nitro key-policy --check now.json --eif privyseal.eif`,
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
	fl.StringVar(&f.check, "check", "", "check the key policy in this file")
	return cmd
}

// images returns the measurements of --eif and --also.
func (f *keyPolicyFlags) images() (list []awspolicy.Image, err error) {
	paths := f.also
	if f.eif != "" {
		paths = append([]string{f.eif}, paths...)
	}
	for _, path := range paths {
		im, err := Read(path)
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
		return "note: any image is admitted, in debug mode only"
	case f.bySigner():
		return "WARNING: every image signed with this certificate (PCR8) is admitted, now and later, including old ones with known faults. Whoever has its private key can get the validator's key: guard it like that one, off the instance. Images in debug mode are denied."
	case f.withoutPCR0 && f.signed:
		return "note: an image of this kernel, command line and program (PCR1) and this policy (PCR2), signed with this certificate (PCR8), is admitted"
	case f.withoutPCR0:
		return "note: an image of this kernel, command line and program (PCR1) and this policy (PCR2) is admitted: what PCR0 would admit"
	case f.signed:
		return "note: only this image (PCR0) is admitted, and only as signed with this certificate (PCR8)"
	}
	return "note: only this image (PCR0) is admitted"
}

// measuredPolicy returns the policy in the image of --eif, nil if there is none.
func (f *keyPolicyFlags) measuredPolicy() (*policy.Policy, error) {
	if f.eif == "" {
		return nil, nil
	}
	im, err := Read(f.eif)
	if err != nil {
		return nil, err
	}
	return Policy(im)
}

// compareRole checks the role, whose ARN is one, against the KMS key of the image:
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
		key, err := keytext.Parse(text)
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
			return cli.Usagef("--%s is only for printing a policy; --check judges everything in the file, against --eif and --also: leave --%s out, and read the output", name, name)
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
      status 0 then only says that nobody gets in except in an image that the policy names
`)
	}
	b.WriteString(`--    not in a key policy, so not checked: grants (aws kms list-grants), and that the
      key is of origin AWS_KMS and of one region (aws kms describe-key)
`)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if n := count[awspolicy.Bypass] + count[awspolicy.Unclear]; n > 0 {
		return fmt.Errorf("%s around the enclave, or that may be; replace it by a policy of `privyseal nitro key-policy`", cure.Count(n, "way"))
	}
	return nil
}
