package signer_test

import (
	"context"
	"testing"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// BenchmarkHandle is one vote from request to response, with a store in memory.
// What a real store adds is measured in package filestore, and all of it by
// `make bench`.
func BenchmarkHandle(b *testing.B) {
	for _, bench := range []struct {
		name   string
		config signer.Config
	}{
		{"no key", cheapConfig(&cheapKey{})},
		{"ed25519", config(newTestKey())},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := bench.config
			c.Store = storetest.NewFake(watermark.Mark{})
			c.Heights = watermark.Heights{Burst: 1 << 62}
			s, err := signer.New(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			handle(b, s)
		})
	}
}

func handle(b *testing.B, s *signer.Signer) {
	req := privval.Request{Kind: privval.KindPrevote, ChainID: chain, BlockID: block("A"), Timestamp: privval.Timestamp{Seconds: 1_800_000_000}}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		req.Height++
		if resp, err := s.Handle(ctx, "n1", &req); err != nil || resp.Refused != "" {
			b.Fatal(err, resp.Refused)
		}
	}
}
