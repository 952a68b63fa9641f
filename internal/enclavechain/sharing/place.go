package sharing

import (
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/shell"
)

// Words are how messages about a measured policy name things, for one kind of enclave.
type Words struct {
	Measured string // what has the policy, as in "image"
	Build    string // to make another one, as in "build an image"
	Policy   string // the command that makes a policy, as in "privyseal nitro image-policy"
	Client   string // the one that makes the client key of etcd, as in "nitro etcd-client"
}

// Misplaced says that an enclave with this policy looks for the mark of a chain elsewhere than
// the config has it, and what repairs it. members is how the config reaches the database that
// it names, nil where it names none.
func (w Words) Misplaced(p *policy.Policy, ch config.Chain, members *provider.Members) (why, cure string) {
	inTable := members != nil && members.Role != nil
	there, move := called(p)
	switch d := p.DynamoDB; {
	case !p.Shared() && members == nil:
	case !p.Shared():
		build := "`" + w.Policy + " --etcd-ca FILE …`"
		if inTable {
			build = "`" + w.Policy + " --dynamodb-table TABLE …`"
		}
		return "the state of chain " + ch.ID + " is in a database, and the policy of the " + w.Measured + " names none", w.Build + " whose policy does: " + build
	case members == nil:
		return "the policy of the " + w.Measured + " has the marks in " + there + ", and the state of chain " + ch.ID + " is on this host", "move it with " + move
	case d.Named() != inTable:
		return "the policy of the " + w.Measured + " has the marks in " + there + ", and the state of chain " + ch.ID + " is in another database",
			"move it with " + move + ", or " + w.Build + " whose policy has the other one"
	case inTable && d.String() != members.Table:
		return fmt.Sprintf("the policy of the %s has the marks in %s, and the config that of chain %s in %s", w.Measured, &d, ch.ID, members.Table), w.otherTable(ch)
	case inTable && members.Instance != "" && members.Instance != d.TableID:
		return fmt.Sprintf("the policy of the %s has the marks in the table with the TableId %s, and the config that of chain %s in %s", w.Measured, d.TableID, ch.ID, members.Instance), w.otherTable(ch)
	}
	return "", ""
}

// called returns what the database of a policy is called for people, and how a state moves
// there.
func called(p *policy.Policy) (name, move string) {
	if p.DynamoDB.Named() {
		return "DynamoDB", "`privyseal state move --to dynamodb`"
	}
	return "etcd", "`privyseal state move --to etcd`"
}

func (w Words) otherTable(ch config.Chain) string {
	return "correct [dynamodb." + ch.StoreTable + "] in the config, or " + w.Build + " whose policy has that table"
}

// ToMove says how the state of a new chain comes into the database that the image's policy
// names. key is where a client key of etcd would go.
func (w Words) ToMove(a *provider.House, p *policy.Policy, key, chain string) string {
	there, _ := called(p)
	before := "the policy of the " + w.Measured + " has the marks in " + there + ", and it signs once this one is there: "
	if d := p.DynamoDB; d.Named() {
		return before + "move the state: " + a.Command("state move --chain-id %s --to dynamodb --dynamodb-table %s --dynamodb-region %s --dynamodb-table-id %s",
			shell.Word(chain), d.Table, d.TableRegion, d.TableID)
	}
	return fmt.Sprintf(before+"have the CA of etcd's clients sign what %s prints, with NAME the user in etcd, and then move the state: %s",
		a.Command("%s --user NAME --out %s", w.Client, shell.Word(key)),
		a.Command("state move --chain-id %s --to etcd --etcd-endpoints ENDPOINT --etcd-ca-file CA --etcd-certificate-file CERTIFICATE --etcd-key-file %s", shell.Word(chain), shell.Word(key)))
}
