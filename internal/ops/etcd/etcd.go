package etcd

import (
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/etcd"
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
		Kind: kind(),
		State: func(at provider.Place, id watermark.ID) provider.Kept {
			c := at.Section.(*cluster).at(at.Path)
			return sharedstate.Shared{
				At: at, ID: id,
				Where:  "etcd " + at.StoreTable + ", " + etcdstore.Key(c.Prefix, id),
				Engine: func() sharedmark.Engine { return c.engine(id) },
			}.Kept()
		},
		Flags: func(fl *pflag.FlagSet) cli.Pick {
			var flags cli.TableFlags[cluster, *cluster]
			flags.Add(fl, table, options)
			return flags.Pick
		},
	}
}

// engine returns the way to a mark.
func (c *cluster) engine(id watermark.ID) *etcdstore.Engine {
	return etcdstore.New(etcdstore.Config{Dialer: c.dialer(), Endpoints: c.Endpoints, Key: etcdstore.Key(c.Prefix, id), Try: c.Try.Duration})
}

func (c *cluster) dialer() etcd.Dialer {
	if c.plain() {
		return etcd.Dialer{}
	}
	return etcd.Dialer{TLS: c.tls}
}
