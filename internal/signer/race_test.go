//go:build race

package signer_test

// sharedWorlds is how many seeds the tests of shared marks take that are one goroutine at a
// time; the race detector makes each ten times as long.
const sharedWorlds = 10
