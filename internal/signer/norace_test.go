//go:build !race

package signer_test

const sharedWorlds = 60
