package nitro

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"privyseal/internal/config"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// entry is what all commands want of the provider.
func entry() provider.Entry {
	return commands.Entry(provider.Entry{
		Where: "an AWS Nitro Enclave", Unit: "privyseal-nitro", Form: "wrapped",
		Imported: "a ciphertext of the key, which opens without its chain being named", Kind: Kind(), Holder: Holder{},
		AtHome: []string{"nitro stop", "nitro run", "nitro console", "nitro info", "nitro attest", "nitro identity", "nitro etcd-client", "nitro proxy", "nitro import-key", "nitro capture"},
	})
}

// Holder is the provider whose keys are in AWS Nitro Enclaves, and wrapped in
// files.
type Holder struct{ enclavecommand.Records }

// Public implements [provider.Holder].
func (Holder) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return commands.Read(c.Path(ch.Key), ch.ID)
}

// Identity implements [provider.Holder].
func (Holder) Identity(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return commands.Read(c.Path(ch.Identity), "")
}

// Check implements [provider.Checker].
func (Holder) Check(_ context.Context, r *provider.Report) {
	for _, name := range slices.Sorted(maps.Keys(Enclaves(r.Config))) {
		checkEnclave(r, name)
	}
}

// CheckState implements [provider.StateKeeper].
func (Holder) CheckState(r *provider.Report, line int, m watermark.Mark) {
	enclavecommand.CheckRecord(r, line, m)
	r.Add(provider.Unsure, line, "state", "whoever takes this instance over can hand an older one to an enclave that starts; doc/nitro-alarm.md sets up the alarm for that", "")
}

// Lost implements [provider.StateKeeper]. What is to be typed on the instance it says;
// what is put into image and key policy only the operator's machine knows, so for that it
// names the guide, and the values for it.
func (Holder) Lost(c *config.Config, ch config.Chain, damaged bool) string {
	here := "--home " + shell.Word(c.Path("."))
	state, stop := here+" --chain-id "+shell.Word(ch.Name), here
	if len(Enclaves(c)) > 1 {
		stop += " --enclave " + shell.Word(ch.Table)
	}
	values := "CHAIN=" + shell.Word(ch.ID)
	if w, err := keyFiles.Read(c.Path(ch.Key), ch.ID); err == nil {
		values += " KEY=" + shell.Word(w.Opener)
		values += " PUBKEY=" + shell.Word(w.PublicKey.Base64())
	}
	begin := "put the file back if its disk still has it"
	if damaged {
		begin = "keep the file, move it aside"
	}
	return fmt.Sprintf("%s, or run `privyseal state import %s FILE` if it was exported; if it is lost for good, only another image, whose policy has a state_floor, can make a new one: "+
		"build that image and let it in as doc/nitro.md says, \"The state is lost\", with %s, and with all else that policy file and key policy have now, every pin included; "+
		"then here stop the service (`systemctl stop privyseal-nitro`, all chains), which would launch the old image again, run `privyseal nitro stop %s`, put the new image in place of %s, "+
		"run `privyseal state init %s --after-height H` with H well above the chain's height, and go back to the old image at once",
		begin, state, values, stop, shell.Word(c.Path(Enclaves(c)[ch.Table].EIF)), state)
}
