package etcd

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"privyseal/internal/cure"
	"privyseal/internal/etcd"
	"privyseal/internal/etcdstore"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// survey says why a host should not begin to use a mark, or make it, where there is none: the
// endpoints are of several clusters, another key has the mark of the chain, or another
// program has keys below the prefix. What cannot be seen, since a member does not answer or
// the rights do not suffice, is no reason.
func (c *cluster) survey(ctx context.Context, id watermark.ID) error {
	asked := c.askAll(ctx)
	defer func() {
		for _, m := range asked {
			m.conn.Close()
		}
	}()
	if len(asked) == 0 {
		return nil
	}
	if err := oneCluster(asked); err != nil {
		return cure.Add(err, "%s", leaveOut)
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	below, err := c.below(ctx, asked[0].conn, id.ChainID)
	ours := etcdstore.Key(c.Prefix, id)
	switch {
	case err != nil || slices.Contains(below.marks, ours):
		return nil
	case len(below.marks) > 0:
		return &provider.StateError{Reason: provider.ErrForeign,
			Err:  fmt.Errorf("another key has a mark for this chain there, %s; that of this key would be %s", strings.Join(below.marks, " and "), ours),
			Cure: "if both are one validator, give this host the key of the other, with --import-key and --join-state; if not, give this one a prefix of its own in the config"}
	case len(below.foreign) > 0:
		return &provider.StateError{Reason: provider.ErrForeign,
			Err:  fmt.Errorf("another program has keys below %s/, such as %q", c.Prefix, below.foreign[0]),
			Cure: "give privyseal a prefix of its own in the config; nothing that another program wrote is overwritten"}
	}
	return nil
}

// askAll asks all members at the same time, and returns those that answer.
func (c *cluster) askAll(ctx context.Context) []member {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	asked := make([]member, len(c.Endpoints))
	var group sync.WaitGroup
	for i, e := range c.Endpoints {
		group.Go(func() {
			if m, err := c.ask(ctx, e); err == nil {
				asked[i] = m
			}
		})
	}
	group.Wait()
	return slices.DeleteFunc(asked, func(m member) bool { return m.conn == nil })
}

// leaveOut is the next step where there are two clusters.
const leaveOut = "leave one of them out of the endpoints"

// oneCluster refuses members of several clusters.
func oneCluster(list []member) error {
	for _, m := range list {
		if first := list[0]; m.Header.Cluster != first.Header.Cluster {
			return fmt.Errorf("%s is of cluster %016x, and %s of cluster %016x", first.endpoint, first.Header.Cluster, m.endpoint, m.Header.Cluster)
		}
	}
	return nil
}

// keys are what is below a prefix.
type keys struct {
	marks   []string // of one chain
	foreign []string // that no privyseal has made
}

// enough bounds how many keys are looked at: more than any operator has chains.
const enough = 200

// below looks which keys there are.
func (c *cluster) below(ctx context.Context, conn *etcd.Conn, chain string) (k keys, err error) {
	of, err := conn.Keys(ctx, c.Prefix+"/"+chain+"/", enough)
	if err != nil {
		return k, err
	}
	k.marks = slices.DeleteFunc(of.Names, func(name string) bool { return !isMark.MatchString(strings.TrimPrefix(name, c.Prefix+"/"+chain)) })
	all, err := conn.Keys(ctx, c.Prefix+"/", enough)
	for _, name := range all.Names {
		if !isMark.MatchString(name) {
			k.foreign = append(k.foreign, name)
		}
	}
	if _, refused := err.(*etcd.Error); refused { // it may see those of its chain alone
		err = nil
	}
	return k, err
}

// isMark matches what [etcdstore.Key] ends with.
var isMark = regexp.MustCompile(`/[0-9a-f]{64}$`)
