package etcd

import (
	"context"

	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/etcdstore"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedstate"
	"privyseal/internal/watermark"
)

// Store is a line of the table of a build.
func Store() provider.Store {
	return provider.Store{
		Name: "etcd",
		Kind: kind(), Check: check, Look: look,
		State: func(at provider.Place, id watermark.ID) provider.Kept {
			c := at.Section.(*cluster).at(at.Path)
			return sharedstate.Shared{
				At: at, ID: id, Kind: table,
				Where:  "etcd " + at.StoreTable + ", " + etcdstore.Key(c.Prefix, id),
				Engine: func() sharedmark.Engine { return c.engine(id) },
				Survey: func(ctx context.Context) error { return c.survey(ctx, id) },
			}.Kept()
		},
		Flags: func(fl *pflag.FlagSet) cli.Pick {
			var flags cli.TableFlags[cluster, *cluster]
			flags.Add(fl, table, options)
			return flags.Pick
		},
	}
}
