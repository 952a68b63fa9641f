// Command v2 is the node of CometBFT v2.0 with privyseal inside it, in place
// of its own FilePV. Nothing else differs from cmd/cometbft: it runs the application
// kvstore, or the one at --proxy_app. The home folder of privyseal is "privyseal" in the
// node's.
package main

import (
	"context"
	"os"

	"github.com/cometbft/cometbft/v2/cmd/cometbft/commands"
	"github.com/cometbft/cometbft/v2/config"
	"github.com/cometbft/cometbft/v2/crypto"
	cryptoenc "github.com/cometbft/cometbft/v2/crypto/encoding"
	"github.com/cometbft/cometbft/v2/libs/cli"
	"github.com/cometbft/cometbft/v2/libs/log"
	"github.com/cometbft/cometbft/v2/node"
	"github.com/cometbft/cometbft/v2/p2p"
	pvm "github.com/cometbft/cometbft/v2/privval"
	"github.com/cometbft/cometbft/v2/proxy"

	"privyseal/aiakos"
)

func newNode(cfg *config.Config, logger log.Logger, params node.CliParams, _ func() (crypto.PrivKey, error)) (*node.Node, error) {
	nodeKey, err := p2p.LoadOrGenNodeKey(cfg.NodeKeyFile())
	if err != nil {
		return nil, err
	}
	return node.NewNodeWithCliParams(context.Background(), cfg,
		aiakos.NewV1(cfg.RootDir+"/privyseal", (*pvm.FilePV)(nil), cryptoenc.PubKeyFromTypeAndBytes),
		nodeKey,
		proxy.DefaultClientCreator(cfg.ProxyApp, cfg.ABCI, cfg.DBDir()),
		node.DefaultGenesisDocProviderFunc(cfg),
		config.DefaultDBProvider,
		node.DefaultMetricsProvider(cfg.Instrumentation),
		logger,
		params,
	)
}

func main() {
	commands.RootCmd.AddCommand(commands.NewRunNodeCmd(newNode))
	if cli.PrepareBaseCmd(commands.RootCmd, "CMT", "").Execute() != nil {
		os.Exit(1)
	}
}
