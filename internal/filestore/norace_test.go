//go:build !race

package filestore

const depthOfCuts = 5
