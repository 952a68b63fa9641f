package enclaveask

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/vsock"
)

// forbidden is an enclave whose ports this process may not take.
type forbidden struct{ dialled int }

func (f *forbidden) Dial(context.Context, uint32) (vsock.Conn, error) {
	f.dialled++
	return nil, fmt.Errorf("cannot dial: %w", syscall.EACCES)
}

// A missing right is reported at once, and not as an enclave that does not answer.
func TestNoRightToTheEnclave(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := &forbidden{}
	err := (&Conversation{}).Connect(ctx, f, [32]byte{}, Words{Silent: "look"})
	if !errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "does not answer") || f.dialled != 1 {
		t.Errorf("dialled %d times: %v", f.dialled, err)
	}
}
