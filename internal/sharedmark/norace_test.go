//go:build !race

package sharedmark

const largeWorlds = true
