// Command v037 is the node of CometBFT v0.37 with privyseal inside it, in place
// of its own FilePV. Nothing else differs from cmd/cometbft: it runs the application
// kvstore, or the one at --proxy_app. The home folder of privyseal is "privyseal" in the
// node's.
package main

import (
	"os"

	"github.com/cometbft/cometbft/cmd/cometbft/commands"
	"github.com/cometbft/cometbft/config"
	cryptoenc "github.com/cometbft/cometbft/crypto/encoding"
	"github.com/cometbft/cometbft/libs/cli"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	pvm "github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"

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
