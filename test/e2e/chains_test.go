package e2e

import (
	"testing"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/test/e2e/story"
)

// A lone validator makes blocks only with signatures that its node verifies,
// and with vote extensions only if those are signed too.

func TestEveryVersionMakesBlocks(t *testing.T) {
	t.Parallel()
	versions := []string{
		// The kvstore of v2 needs a second a block, so it goes first.
		"v2.0.0-rc1", "v0.34.35", "v0.37.18", "v0.38.26", "v0.39.4", "v0.40.0", "v1.0.1",
	}
	for _, version := range versions {
		for _, transport := range []string{"unix", "tcp"} {
			t.Run(version+"/"+transport, func(t *testing.T) {
				t.Parallel()
				ctx := story.Within(t, 2*time.Minute)
				startChain(ctx, t, setup{version, transport, pubkey.Ed25519}).makesBlocks(ctx, t)
			})
		}
	}
}

func TestNoiseMakesBlocks(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, time.Minute)
	startChain(ctx, t, setup{"v0.40.0", "noise", pubkey.Ed25519}).makesBlocks(ctx, t)
}

func TestEveryKeyTypeMakesBlocks(t *testing.T) {
	t.Parallel()
	for _, s := range []setup{
		{"v0.34.35", "tcp", pubkey.Secp256k1},
		{"v0.38.26", "unix", pubkey.Secp256k1},
		{"v0.38.26", "unix", pubkey.MLDSA65},
		{"v0.40.0", "tcp", pubkey.MLDSA65},
		{"v0.40.0", "unix", pubkey.Secp256k1Eth},
		{"v1.0.1", "unix", pubkey.Secp256k1},
	} {
		t.Run(string(s.keyType)+"/"+s.version, func(t *testing.T) {
			t.Parallel()
			ctx := story.Within(t, time.Minute)
			startChain(ctx, t, s).makesBlocks(ctx, t)
		})
	}
}
