// Package look asks the witnesses of a chain once what they see of it, for a person who
// wants to know. What watches a chain while it is signed for is [privyseal/internal/witness].
package look

import (
	"cmp"
	"context"
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/daemon"
	"privyseal/internal/provider"
	"privyseal/internal/witness"
)

// Sight is what one witness shows.
type Sight struct {
	Addr   string
	Status witness.Status
	Lies   int
	Err    error

	looked, signed int // commits, and those with a signature of ours
	last           int64
}

// look asks one witness for its tip and the last few commits.
func look(ctx context.Context, a *provider.House, c *config.Config, ch config.Chain, addr string) Sight {
	s := Sight{Addr: addr}
	key, err := a.Providers.Public(c, ch)
	if err != nil {
		s.Err = err
		return s
	}
	client, err := witness.NewClient(addr, key.Address())
	if err != nil {
		s.Err = err
		return s
	}
	defer client.Close()
	if s.Status, s.Err = client.Status(ctx, ch.ID); s.Err != nil {
		return s
	}
	const most = 5
	for h := max(1, s.Status.Height-most+1); h <= s.Status.Height; h++ {
		commit, err := client.Commit(ctx, ch.ID, h)
		if err != nil {
			continue // pruned
		}
		s.looked++
		ours, lies := commit.Ours(key.Verify)
		s.Lies += lies
		if ours {
			s.signed, s.last = s.signed+1, h
		}
	}
	return s
}

func (s Sight) String() string {
	if s.Err != nil {
		return s.Err.Error()
	}
	text := fmt.Sprintf("height %d, CometBFT %s", s.Status.Height, cmp.Or(s.Status.Version, "of an unknown version"))
	if s.Status.CatchingUp {
		text += ", catching up"
	}
	switch {
	case s.signed > 0:
		text += fmt.Sprintf(", our key signed %d of the last %s, the last one at %d", s.signed, cure.Count(s.looked, "commit"), s.last)
	case s.looked > 0:
		text += fmt.Sprintf(", our key signed none of the last %s", cure.Count(s.looked, "commit"))
	}
	if s.Lies > 0 {
		text += ", and made " + cure.Count(s.Lies, "false claim") + " of our signature"
	}
	return text
}

// All asks all witnesses of a chain, at the same time.
func All(ctx context.Context, a *provider.House, c *config.Config, ch config.Chain) []Sight {
	sights := make([]Sight, len(ch.Witness))
	numbers := make([]int, len(sights))
	for i := range numbers {
		numbers[i] = i
	}
	daemon.AtOnce(numbers, func(i int) { sights[i] = look(ctx, a, c, ch, ch.Witness[i]) })
	return sights
}
