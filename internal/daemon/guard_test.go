package daemon

import (
	"testing"

	"privyseal/internal/provider"
)

// What an earlier watch has found holds after a reload, also without a witness.
func TestBoundsOutliveAWatch(t *testing.T) {
	w := &Guard{}
	w.floor.Store(201)
	if b := w.bounds(); b.Floor != 201 || b.Stop != "" {
		t.Errorf("%+v", b)
	}
	why := "another signer"
	w.why.Store(&why)
	if b := w.bounds(); b.Stop != why {
		t.Errorf("%+v", b)
	}
}

// A witness loads a mark that signers of other hosts raise, and no other one.
func TestWhatAWitnessLoads(t *testing.T) {
	if (&chain{}).load() != nil || (&chain{state: provider.Kept{Shared: true}}).load() == nil {
		t.Error("not the shared mark alone is loaded")
	}
}
