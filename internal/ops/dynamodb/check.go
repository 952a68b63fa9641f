package dynamodb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"privyseal/internal/dynamostore"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// slowTrip is more than a region nearby needs for a read.
const slowTrip = 100 * time.Millisecond

// check adds rows about each table of the config.
func check(ctx context.Context, r *provider.Report) {
	tables := r.Config.Tables[name]
	for _, n := range slices.Sorted(maps.Keys(tables)) {
		c := checked{Report: r, table: tables[n].(*table), line: r.Config.Line(name, n), name: name + " " + n}
		c.all(ctx, c.marks(n))
	}
}

// checked is a table that is looked at.
type checked struct {
	*provider.Report
	*table
	line int
	name string
}

func (c checked) add(v provider.Verdict, next, format string, args ...any) {
	c.Add(v, c.line, c.name, fmt.Sprintf(format, args...), next)
}

// marks names those that are in the table of a name, as the config says: the zero id in their place
// where none is known.
func (c checked) marks(n string) (list []watermark.ID) {
	for _, ch := range c.Config.Chains {
		if ch.Store == name && ch.StoreTable == n && c.ID != nil && c.ID(ch) != (watermark.ID{}) {
			list = append(list, c.ID(ch))
		}
	}
	if len(list) == 0 {
		list = append(list, watermark.ID{})
	}
	return list
}

// all looks at the table once for each mark: a role may be limited to their items.
func (c checked) all(ctx context.Context, marks []watermark.ID) {
	all := make([]dynamostore.Seen, len(marks))
	for i, id := range marks {
		var err error
		all[i], err = c.look(ctx, id)
		if errors.Is(err, dynamostore.ErrOtherTable) {
			c.add(provider.Bad, "what to do is in "+page+", \"The table was restored\"", "%v", err)
			return
		}
		if err != nil {
			c.add(provider.Bad, "", "%v", c.explain(err))
			return
		}
	}
	seen := all[0]
	if c.mayAll(marks, all) {
		c.answers(seen)
	}
	if c.TableID == "" && seen.ID != "" {
		c.add(provider.Unsure, "add "+pin(seen.ID)+" to the config", "the config does not say which table of this name it is: a host that joins later could be given a restored one")
	}
	if !seen.Protected && seen.ID != "" {
		c.add(provider.Unsure, fmt.Sprintf("`aws dynamodb update-table --region %s --table-name %s --deletion-protection-enabled`", c.Region, c.Table), "the table can be deleted by one wrong command; every signer would end")
	}
}

// mayAll adds a row for each call that the role may not make, and reports whether there is none.
func (c checked) mayAll(marks []watermark.ID, all []dynamostore.Seen) bool {
	denied, of := map[string]*dynamostore.Error{}, map[string][]string{}
	for i, seen := range all {
		for _, d := range seen.Denied {
			denied[d.Op] = cmp.Or(denied[d.Op], d)
			of[d.Op] = append(of[d.Op], marks[i].ChainID)
		}
	}
	for _, op := range slices.Sorted(maps.Keys(denied)) {
		what := "this table"
		if len(of[op]) < len(marks) {
			what = "the item of chain " + strings.Join(of[op], " and of chain ") + " in this table"
		}
		c.add(provider.Bad, fmt.Sprintf("the role of this host needs dynamodb:%s for %s: %s has the policy", op, what, page), "%v", denied[op])
	}
	return len(denied) == 0
}

// answers adds a row about a table that this role may read and write.
func (c checked) answers(seen dynamostore.Seen) {
	took := seen.Took.Round(100 * time.Microsecond)
	switch {
	case seen.Took > c.Try.Duration:
		c.add(provider.Bad, "take a region nearby, or raise `try` in the config", "table %s of %s answers in %v, and `try` is %v", c.Table, c.Region, took, c.Try.Duration)
	case seen.Took > slowTrip:
		c.add(provider.Unsure, "", "table %s of %s answers in %v; a region nearby is faster", c.Table, c.Region, took)
	default:
		c.add(provider.Good, "", "table %s of %s answers in %v, and this role may read and write it", c.Table, c.Region, took)
	}
}
