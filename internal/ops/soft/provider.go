package soft

import (
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry: provider.Entry{Name: "soft", Where: "a file", Imported: "the key in plain text", Types: pubkey.Types(), Holder: Holder{}},
		Maker: func() home.Maker { return home.Plain(readKey) },
	}
}
