package nitrohost

import (
	"testing"
)

// launcher returns a launcher whose nitro-cli answers as the test says, by the command
// alone, and what nitro-cli was asked to do, descriptions aside.
func launcher(t *testing.T, answer func(args []string) cliAnswer) (l *Launcher, calls func() []string) {
	t.Helper()
	m := newMachine(t)
	m.fails(func(command string) *cliAnswer {
		a := answer([]string{command})
		return &a
	})
	l = m.setup().config.Launcher
	l.EIF, l.MemoryMiB, l.CPUs = "/images/our.eif", 64, 2
	return l, m.commands
}
