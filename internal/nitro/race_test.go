//go:build race

package nitro

const underRace = true
