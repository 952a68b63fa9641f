//go:build !linux

package filestore

import (
	"context"
	"os"

	"privyseal/internal/watermark"
)

// Store is never made on this platform.
type Store struct{ watermark.Store }

// Open returns ErrPlatform.
func Open(_ context.Context, c Config) (*Store, error) { return nil, c.explain("open", ErrPlatform) }

// Create returns ErrPlatform.
func Create(c Config, _ watermark.Saved) error { return c.explain("create", ErrPlatform) }

// Adopt returns ErrPlatform.
func Adopt(c Config) error { return c.explain("adopt", ErrPlatform) }

// Raise returns ErrPlatform.
func Raise(c Config, _ watermark.Saved) error { return c.explain("raise", ErrPlatform) }

// Export returns ErrPlatform.
func Export(c Config) (watermark.Saved, error) {
	return watermark.Saved{}, c.explain("export", ErrPlatform)
}

// HostFolders returns none.
func HostFolders() []string { return nil }

// Host is never made on this platform.
type Host struct{}

// Host returns ErrPlatform.
func (s *Store) Host(context.Context, watermark.ID) (*Host, error) {
	return nil, &Error{Op: "open", Err: ErrPlatform}
}

// Refuses knows nothing here of other states.
func (h *Host) Refuses(watermark.Mark) string { return "" }

// NotBelow knows nothing here of other states.
func (h *Host) NotBelow(watermark.Mark) error { return nil }

// Highest returns the zero mark.
func (h *Host) Highest() watermark.Mark { return watermark.Mark{} }

// Note does nothing.
func (h *Host) Note(watermark.Saved, bool) {}

// Take does nothing.
func (h *Host) Take(watermark.Saved, bool) {}

// Close does nothing.
func (h *Host) Close() error { return nil }

// Beside knows nothing here of other states.
func Beside(Config, watermark.ID, watermark.Mark) (string, watermark.Mark) {
	return "", watermark.Mark{}
}

// Remembered returns the zero mark.
func Remembered(Config) watermark.Mark { return watermark.Mark{} }

// examine and surroundings know nothing here of file systems and inodes.
func (c Config) examine(*os.File, *Info) error { return nil }

func (c Config) surroundings(*os.File) (*surroundings, error) { return nil, nil }
