package soft

import (
	"privyseal/internal/home"
	"privyseal/internal/provider"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry: provider.Entry{Name: "soft", Where: "a file", Imported: "the key in plain text", Holder: Holder{}},
		Maker: func() home.Maker { return home.Plain(readKey) },
	}
}
