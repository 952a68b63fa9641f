//go:build race

package provision

// stride is how many commands a test of faults goes on by: the race detector makes each
// set-up five times as long, and what runs side by side is the same at each command.
const stride = 5
