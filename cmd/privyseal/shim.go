package main

import (
	"io"

	"privyseal/internal/cli"
	"privyseal/internal/provider"
)

// Short names of what is in internal/cli, for the files that have not moved to a room
// of their own yet.
type (
	app         = provider.House
	typeFlag    = cli.KeyType
	formatFlags = cli.KeyFormat
)

var (
	asConfig       = cli.BadConfig
	arguments      = cli.Arguments
	readBounded    = cli.ReadBounded
	writeNew       = cli.WriteNew
	syncFolder     = cli.SyncFolder
	ofFlag         = cli.OfFlag
	formatKey      = cli.FormatKey
	keyJSON        = cli.KeyJSON
	peerID         = cli.PeerID
	parsePublicKey = cli.ParsePublicKey
)

func usagef(format string, args ...any) error { return cli.Usagef(format, args...) }

func actf(format string, args ...any) error { return cli.Actf(format, args...) }

func warnPlaintext(w io.Writer, path string) { cli.WarnPlaintext(w, path) }
