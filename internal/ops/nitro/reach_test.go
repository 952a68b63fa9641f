package nitro

import (
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/ops/nitro/nitrotest"
	"privyseal/internal/provider"
	"privyseal/internal/sharedstate"
)

func TestImageThatPointsIntoItsHostIsNotLaunched(t *testing.T) {
	for endpoint, path := range nitrotest.CraftedImages(t) {
		if _, _, err := (&enclaveFlags{}).readImage(path); err == nil || !strings.Contains(err.Error(), "kms_endpoint: ") {
			t.Errorf("%s: init and start: %v", endpoint, err)
		}
	}
}

// An enclave reaches a state that hosts share only where it is asked for it.
func TestUnreached(t *testing.T) {
	table, ch := provider.Table{entry()}, config.Chain{Name: "c-1", Provider: providerName}
	for _, c := range []struct {
		kept    provider.Kept
		refused bool
	}{
		{provider.Kept{Shared: true, Where: "a table"}, true},
		{provider.Kept{Where: "a file"}, false},
		{provider.Kept{Shared: true, State: sharedstate.Elsewhere{}}, false},
	} {
		if err := table.Unreached(ch, c.kept); (err != nil) != c.refused {
			t.Errorf("%+v: %v", c.kept, err)
		}
	}
}
