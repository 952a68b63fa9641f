package nitrohost

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// Said is what one nitro-cli printed, and its exit status.
type Said struct {
	Stdout, Stderr []byte
	Status         int
}

// Record runs nitro-cli with any arguments, for a record of what it says: a status is no
// error. It is never killed, as no other.
func (l *Launcher) Record(ctx context.Context, args ...string) (s Said, err error) {
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	if err := l.takeTurn(ctx); err != nil {
		return s, err
	}
	p, err := l.start(args[0], args[1:])
	if err != nil {
		l.turn <- struct{}{}
		return s, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return s, fmt.Errorf("nitro-cli %s has not ended, and is left to run: %w", args[0], context.Cause(ctx))
	}
	defer p.close()
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		s.Status = exit.ExitCode()
	} else if p.err != nil {
		return s, p.err
	}
	var errs [2]error
	s.Stdout, errs[0] = contents(p.stdout)
	s.Stderr, errs[1] = contents(p.stderr)
	return s, errors.Join(errs[:]...)
}
