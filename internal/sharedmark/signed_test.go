package sharedmark_test

import (
	"context"
	"errors"
	"testing"

	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

func vote(height int64, text string) watermark.Mark {
	return watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: []byte(text)}
}

// late is an engine whose first swap comes after what another host does.
type late struct {
	*enginetest.Memory
	first func()
}

func (l *late) Swap(ctx context.Context, old sharedmark.At, value []byte) (sharedmark.At, bool, error) {
	if do := l.first; do != nil {
		l.first = nil
		do()
	}
	return l.Memory.Swap(ctx, old, value)
}

// A host that has signed more with another state joins, and adopts, above that: nothing of it is
// signed again, whoever writes meanwhile.
func TestSignedWithAnotherState(t *testing.T) {
	for name, tt := range map[string]struct{ there, signed, want watermark.Mark }{
		"nothing":           {vote(5, "x"), watermark.Mark{}, vote(5, "x")},
		"less":              {vote(5, "x"), vote(4, "y"), vote(5, "x")},
		"the same":          {vote(5, "x"), vote(5, "x"), vote(5, "x")},
		"another block":     {vote(5, "x"), vote(5, "y"), watermark.Mark{Height: 5, Step: watermark.StepPrevote}},
		"more":              {vote(5, "x"), vote(9, "y"), vote(9, "y")},
		"more than was won": {vote(5, "x"), vote(6, "y"), vote(7, "z")},
	} {
		t.Run(name, func(t *testing.T) {
			for command, do := range map[string]func(context.Context, sharedmark.Config) error{"join": sharedmark.Join, "adopt": sharedmark.Adopt} {
				db := enginetest.NewDatabase()
				a, b := inMemory(t, db).must(create(tt.there)), inMemory(t, db)
				if command == "adopt" {
					b.must(sharedmark.Join)
				}
				var seen watermark.Mark
				b.must(func(ctx context.Context, c sharedmark.Config) error {
					c.Signed = tt.signed
					c.Seen = func(saved watermark.Saved, exported bool) { seen = saved.Mark }
					if tt.want.Height == 7 {
						c.Engine = &late{b.engine, func() {
							a.must(func(ctx context.Context, c sharedmark.Config) error {
								return sharedmark.Raise(ctx, c, watermark.Saved{Mark: tt.want})
							})
						}}
					}
					return do(ctx, c)
				})
				for _, h := range []*host{a, b} {
					saved, err := h.signer().Load(t.Context())
					if err != nil || !saved.Mark.Equal(tt.want) || !seen.Equal(tt.want) {
						t.Errorf("%s: it is at %v, and was seen at %v: %v", command, saved.Mark, seen, err)
					}
				}
			}
		})
	}
}

// What was exported is told as that, and nothing raises it.
func TestSeenExported(t *testing.T) {
	db := enginetest.NewDatabase()
	a := inMemory(t, db).must(create(vote(5, "x")))
	ended := 0
	use := func(command func(context.Context, sharedmark.Config) error) error {
		return a.do(func(ctx context.Context, c sharedmark.Config) error {
			c.Signed = vote(9, "y")
			c.Seen = func(saved watermark.Saved, exported bool) {
				if exported && saved.Mark.Equal(vote(5, "x")) {
					ended++
				}
			}
			return command(ctx, c)
		})
	}
	if err := use(func(ctx context.Context, c sharedmark.Config) error { _, err := sharedmark.Export(ctx, c); return err }); err != nil || ended != 1 {
		t.Errorf("%d, %v", ended, err)
	}
	if err := use(sharedmark.Adopt); !errors.Is(err, sharedmark.ErrExported) || ended != 2 {
		t.Errorf("%d, %v", ended, err)
	}
}
