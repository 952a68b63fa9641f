package nitro

import (
	"errors"
	"fmt"

	"privyseal/internal/enclavechain/sharing"
	"privyseal/internal/nitrohost"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/provider"
)

// checkEnclave checks the image of an enclave, and whether its policy lets it sign
// for the chains that are to be in it.
func checkEnclave(r *provider.Report, name string) {
	line, what := r.Config.Line("enclave", name, "eif"), "enclave "+name
	path := r.Config.Path(Enclaves(r.Config)[name].EIF)
	im, err := image.Read(path)
	if err != nil {
		r.Add(provider.Bad, line, what, err.Error(), "put the image back from the backup, or build it again: the same inputs give the same bytes")
		return
	}
	p, err := image.Policy(im)
	if err == nil && p == nil {
		err = errors.New("`privyseal nitro build` does not lay an image out like this: its command line, its ramdisks or the boundaries between them differ")
	}
	if err != nil {
		r.Add(provider.Bad, line, what, path+": "+err.Error(), "build the image with `privyseal nitro build`")
		return
	}
	r.Add(provider.Good, line, what, fmt.Sprintf("%s, PCR0 %v", path, im.Measure().PCR0), "")
	if why := image.OtherProgram(im); why != "" {
		r.Add(provider.Unsure, line, what, why, "")
	}
	for _, why := range image.ForTests(p) {
		r.Add(provider.Unsure, line, what, why, "")
	}
	if p.DynamoDB.Named() {
		r.Add(provider.Unsure, line, what, "whoever has the rights of this host's role can put an old mark back into "+p.DynamoDB.String()+", and an enclave that starts then signs with it", "")
	}
	if Enclaves(r.Config)[name].Transport == "" && nitrohost.Sockets() == "" {
		r.Add(provider.Unsure, line, what, "nitro-cli keeps its sockets where every user of this instance has access, and can make the enclave unmanageable",
			"start it by systemd/privyseal-nitro.service, or make "+nitrohost.SocketsDir+" with mode 0700 for this user, before the enclave is launched")
	}
	for i, ch := range r.Config.Chains {
		if ch.Table != name {
			continue
		}
		key, identity, _ := keyFiles.Of(r.Config, ch) // rows of their own say what is wrong with them
		if key == nil {
			continue
		}
		why, cure := keyFiles.Disallowed(p, ch.ID, key, identity)
		if why == "" {
			why, cure = says.Misplaced(p, ch, sharing.Reached(r.Config, ch))
		}
		if why != "" {
			r.Add(provider.Bad, r.Config.Line("chain", i, "enclave"), what, why, cure)
		}
	}
}
