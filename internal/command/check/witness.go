package check

import (
	"context"
	"fmt"

	"privyseal/internal/command/look"
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/shell"
	"privyseal/internal/witness"
)

// checkWitnesses has a row for each witness, and one for a chain without.
func (k *inspection) checkWitnesses(ctx context.Context, i int) {
	ch := k.Config.Chains[i]
	line := k.Config.Line("chain", i, "witness")
	if flag, err := witness.ReadFlag(k.Config.Path(ch.State)); err == nil && flag.Stopped {
		k.Add(provider.Bad, line, "witness", flag.Why, "once the other signer is off for good: "+k.app.Command("witness --chain-id %s --resume", shell.Word(ch.Name)))
	} else if err == nil && flag.Quarantine && len(ch.Witness) > 0 {
		k.Add(provider.Unsure, line, "witness", "the next start goes through a quarantine: "+flag.Why, "")
	}
	if len(ch.Witness) == 0 {
		k.Add(provider.Unsure, k.Config.Line("chain", i), "witness", home.NoWitness, "")
	}
	sights := look.All(ctx, k.app, k.Config, ch)
	var tip int64
	for _, s := range sights {
		tip = max(tip, s.Status.Height)
	}
	for j, s := range sights {
		line := k.Config.Line("chain", i, "witness", j)
		text := s.Addr + ": " + s.String()
		switch behind := tip - s.Status.Height; {
		case s.Err != nil:
			k.Add(provider.Bad, line, "witness", s.Err.Error(), "correct `witness`, or start that node; the signer signs without it")
		case s.Lies > 0 || behind > maxBehind:
			k.Add(provider.Unsure, line, "witness", fmt.Sprintf("%s; %d behind the newest witness", text, behind), "")
		default:
			k.Add(provider.Good, line, "witness", text, "")
		}
	}
}

// maxBehind is how many blocks a witness may be late before it is worth a word.
const maxBehind = 10
