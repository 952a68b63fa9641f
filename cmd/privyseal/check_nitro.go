package main

import (
	"errors"
	"fmt"

	"privyseal/internal/host"
	"privyseal/internal/key/nitrokms"
)

// checkEnclave checks the image of an enclave, and whether its policy lets it sign
// for the chains that are to be in it.
func (k *inspection) checkEnclave(name string) {
	line, what := k.config.Line("enclave", name, "eif"), "enclave "+name
	path := k.config.Path(k.config.Enclaves[name].EIF)
	im, err := readImage(path)
	if err != nil {
		k.add(bad, line, what, err.Error(), "put the image back from the backup, or build it again: the same inputs give the same bytes")
		return
	}
	p, err := imagePolicy(im)
	if err == nil && p == nil {
		err = errors.New("`privyseal nitro build` does not lay an image out like this: its command line, its ramdisks or the boundaries between them differ")
	}
	if err != nil {
		k.add(bad, line, what, path+": "+err.Error(), "build the image with `privyseal nitro build`")
		return
	}
	k.add(good, line, what, fmt.Sprintf("%s, PCR0 %v", path, im.Measure().PCR0), "")
	if why := otherProgram(im); why != "" {
		k.add(unsure, line, what, why, "")
	}
	for _, why := range testPolicy(p) {
		k.add(unsure, line, what, why, "")
	}
	if k.config.Enclaves[name].Transport == "" && host.Sockets() == "" {
		k.add(unsure, line, what, "nitro-cli has its sockets where every user of this instance gets in, and can make the enclave unmanageable",
			"start it by systemd/privyseal-nitro.service, or make "+host.SocketsDir+" with mode 0700 for this user, before the enclave is launched")
	}
	for i, ch := range k.config.Chains {
		if ch.Enclave != name {
			continue
		}
		_, header, _, err := readWrapped(k.config.Path(ch.Key), ch.ID)
		if err != nil {
			continue // the row of its key says so
		}
		var identity *nitrokms.Header
		if ch.Identity != "" {
			if _, h, _, err := readWrapped(k.config.Path(ch.Identity), ""); err == nil {
				identity = &h
			}
		}
		if why, cure := disallowed(p, ch.ID, header, identity); why != "" {
			k.add(bad, k.config.Line("chain", i, "enclave"), what, why, cure)
		}
	}
}
