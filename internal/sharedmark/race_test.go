//go:build race

package sharedmark

// largeWorlds: the race detector makes them ten times as long, and the model is one
// goroutine at a time.
const largeWorlds = false
