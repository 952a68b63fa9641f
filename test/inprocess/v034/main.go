// Command v034 is the node of CometBFT v0.34 with privyseal inside it, in place
// of its own FilePV. Nothing else differs from cmd/cometbft: it runs the application
// kvstore, or the one at --proxy_app. The home folder of privyseal is "privyseal" in the
// node's.
package main

import (
	"os"

	"github.com/tendermint/tendermint/cmd/cometbft/commands"
	"github.com/tendermint/tendermint/config"
	cryptoenc "github.com/tendermint/tendermint/crypto/encoding"
	"github.com/tendermint/tendermint/libs/cli"
	"github.com/tendermint/tendermint/libs/log"
	"github.com/tendermint/tendermint/node"
	"github.com/tendermint/tendermint/p2p"
	pvm "github.com/tendermint/tendermint/privval"
	"github.com/tendermint/tendermint/proxy"

	"privyseal/aiakos"
)

func newNode(cfg *config.Config, logger log.Logger) (*node.Node, error) {
	nodeKey, err := p2p.LoadOrGenNodeKey(cfg.NodeKeyFile())
	if err != nil {
		return nil, err
	}
	return node.NewNode(cfg,
		aiakos.New(cfg.RootDir+"/privyseal", (*pvm.FilePV)(nil), cryptoenc.PubKeyFromProto),
		nodeKey,
		proxy.DefaultClientCreator(cfg.ProxyApp, cfg.ABCI, cfg.DBDir()),
		node.DefaultGenesisDocProviderFunc(cfg),
		node.DefaultDBProvider,
		node.DefaultMetricsProvider(cfg.Instrumentation),
		logger,
	)
}

func main() {
	commands.RootCmd.AddCommand(commands.NewRunNodeCmd(newNode))
	if cli.PrepareBaseCmd(commands.RootCmd, "CMT", "").Execute() != nil {
		os.Exit(1)
	}
}
