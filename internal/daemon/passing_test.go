package daemon

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"privyseal/internal/provider"
)

// What may pass is tried again by itself; all else waits for an operator.
func TestMayPass(t *testing.T) {
	for err, want := range map[error]bool{
		provider.ErrAway: true, provider.ErrLocked: true, provider.ErrTwin: true, syscall.ENOSPC: true,
		provider.ErrMissing: false, provider.ErrRestored: false, provider.ErrClone: false, syscall.EACCES: false,
	} {
		if got := MayPass(fmt.Errorf("chain: %w", errors.Join(errors.New("x"), err))); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
