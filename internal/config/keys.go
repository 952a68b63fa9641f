package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// keys are the keys of all configs. A test compares them with the struct. Those of
// providers come from their kinds, with the name of a table as *.
var keys = []Key{
	{Name: "listen", Type: "a string", Default: `""`, Comment: "Metrics and health, as IP:port; \"\" is off. Whatever is not a loopback address\nis open to whoever reaches it."},
	{Name: "log", Type: "a table"},
	{Name: "log.level", Type: "a string", Default: Quote(DefaultLevel), Comment: "debug, info, warn or error"},
	{Name: "log.format", Type: "a string", Default: Quote(DefaultFormat), Comment: "auto (text, with journald's priorities under systemd), text or json"},
	{Name: "chain", Type: "tables"},
	{Name: "chain.*", Type: "a table"},
	{Name: "chain.*.id", Type: "a string", Default: Required,
		More: "The chain id: 1 to 50 of `A-Z a-z 0-9 . _ -` that do not start with a dot. Two chains may share it, with different keys and states, as while a validator changes from one consensus key to the next."},
	{Name: "chain.*.name", Type: "a string", Comment: "names the chain in commands, metrics and logs",
		More: "The same rule as for the id; default: the id. No two chains share it, and it is not the id of another chain."},
	{Name: "chain.*.provider", Type: "a string", Default: Required, More: "Who holds the key."},
	{Name: "chain.*.key", Type: "a string", Default: Required,
		More: "Path of the key file, or of what the provider keeps in its place. Chains with a key file may share it."},
	{Name: "chain.*.store", Type: "a string", More: "What keeps the state."},
	{Name: "chain.*.state", Type: "a string", Default: Required, Comment: "never copy it; it moves by `privyseal state export`",
		More: "Path of the state file; no other chain may use it."},
	{Name: "chain.*.identity", Type: "a string", Comment: "how a tcp:// or noise:// node knows this signer",
		More: "Path of a key, held like `key`; required as soon as a node is `tcp://` or `noise://`."},
	{Name: "chain.*.imported_from", Type: "strings", Comment: "`privyseal check` fails while one of these exists",
		More: "The files from which key and identity were imported."},
	{Name: "chain.*.imported_from.*", Type: "a string"},
	{Name: "chain.*.node", Type: "tables"},
	{Name: "chain.*.node.*", Type: "a table"},
	{Name: "chain.*.node.*.name", Type: "a string",
		More: "The name in logs and metrics: 1 to 50 of `A-Z a-z 0-9 . _ -`, each once in a chain. Default: `node1`, `node2`, … by position."},
	{Name: "chain.*.node.*.addr", Type: "a string", Default: Required, More: "`unix:///path`, `tcp://[node-id@]host:port` or `noise://peer-id@host:port`."},
	{Name: "chain.*.node.*.peer_uid", Type: "a number", More: "The user id that the process at a unix socket must have."},
	{Name: "chain.*.witness", Type: "strings", Comment: "RPC addresses of nodes, which show what our key has signed",
		More: fmt.Sprintf("At most %d; they are watched for signatures of this key that this signer did not make.", MaxWitnesses)},
	{Name: "chain.*.witness.*", Type: "a string"},
	{Name: "chain.*.witness_wait", Type: "a duration", Default: Quote(DefaultWitnessWait.String()), Comment: "how long a start waits for one, 1s to 10m"},
	{Name: "chain.*.max_height", Type: "a number", Default: "0", Comment: "the highest height ever signed; 0 is no limit"},
	{Name: "chain.*.height_burst", Type: "a number", Default: fmt.Sprint(DefaultHeightBurst), Comment: "how many heights the mark may jump at once"},
	{Name: "chain.*.height_per_second", Type: "a number", Default: fmt.Sprint(DefaultHeightPerSecond), Comment: "how many of them are regained per second"},
	{Name: "chain.*.timeout", Type: "a duration", Default: Quote(DefaultTimeout.String()), Comment: "silence, after its first request, that ends a connection: 5s to 5m"},
	{Name: "chain.*.allow_sign_bytes", Type: "true or false", Default: "false", Comment: "CometBFT v1, v2: signs raw bytes for whoever controls the node",
		More: "That is `SignBytes`, and the `non_rp_extension` of v2."},
	{Name: "chain.*.allow_raw_bytes", Type: "true or false", Default: "false", Comment: "Celestia: the same", More: "That is `SignRawBytes`."},
}

// Keys returns all keys there are, those of providers last.
func (k Kinds) Keys() []Key {
	all := slices.Clone(keys)
	for i, key := range all {
		switch key.Name {
		case "chain.*.provider":
			all[i].More += " One of " + k.providers() + "."
		case "chain.*.store":
			if first := k.store("").Store; first != "" {
				all[i].Default = Quote(first)
				all[i].More += " One of " + k.stores() + "."
			}
		}
		for _, kind := range k {
			if why, refused := kind.Refused[strings.TrimPrefix(key.Name, "chain.*.")]; refused {
				all[i].More = strings.TrimSpace(key.More + fmt.Sprintf(" Not with %s: that %s.", kind.short(), why))
			}
		}
	}
	for _, kind := range k {
		if kind.Table == "" {
			continue
		}
		all = append(all, Key{Name: "chain.*." + kind.Table, Type: "a string",
			More: fmt.Sprintf("The name of the [%s.NAME] that has the %s; required with %s, and for no other.", kind.Table, kind.has(), kind.short())},
			Key{Name: kind.Table, Type: "a table"}, Key{Name: kind.Table + ".*", Type: "a table"})
		for _, key := range kind.Keys {
			key.Name = kind.Table + ".*." + key.Name
			all = append(all, key)
		}
	}
	return all
}

// types returns the types of all keys there are.
func (k Kinds) types() map[string]string {
	return maps.Collect(func(yield func(name, of string) bool) {
		for _, key := range k.Keys() {
			if !yield(key.Name, key.Type) {
				return
			}
		}
	})
}
