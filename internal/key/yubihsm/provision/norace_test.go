//go:build !race

package provision

const stride = 1
