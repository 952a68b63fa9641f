package dynamodb

import (
	"context"
	"encoding/hex"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedstate"
	"privyseal/internal/watermark"
)

// Store is a line of the table of a build.
func Store() provider.Store {
	return provider.Store{
		Name: name,
		Kind: kind(), Check: check,
		State: func(at provider.Place, id watermark.ID) provider.Kept {
			t := at.Section.(*table)
			return sharedstate.Shared{
				At: at, ID: id, Kind: name,
				Where:   "dynamodb " + at.StoreTable + ", table " + t.Table + " of " + t.Region + ", " + id.ChainID + "/" + hex.EncodeToString(id.Key[:]),
				Engine:  func() sharedmark.Engine { return t.engine(id) },
				Prepare: func(ctx context.Context) (string, error) { return t.prepare(ctx, id) },
			}.Kept()
		},
		Flags: func(fl *pflag.FlagSet) cli.Pick {
			var flags cli.TableFlags[table, *table]
			flags.Add(fl, name, options)
			return flags.Pick
		},
	}
}
