//go:build race

package filestore

// depthOfCuts is how many steps TestPowerCuts goes; the race detector makes each ten
// times as long.
const depthOfCuts = 4
