package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/cometbft/cometbft/config"
	cryptoenc "github.com/cometbft/cometbft/crypto/encoding"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	pvm "github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"
	"github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/server"
	serverlog "github.com/cosmos/cosmos-sdk/server/log"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"

	"privyseal/aiakos"
)

// startInside is `start` for a validator: privyseal signs inside it, and it serves neither
// API nor gRPC.
func startInside(ctx *server.Context, _ client.Context, newApp servertypes.AppCreator, _ bool, opts server.StartCmdOptions) error {
	cfg := ctx.Config
	db, err := opts.DBOpener(cfg.RootDir, server.GetAppDBBackend(ctx.Viper))
	if err != nil {
		return err
	}
	app := newApp(ctx.Logger, db, nil, ctx.Viper)
	defer app.Close()
	nodeKey, err := p2p.LoadOrGenNodeKey(cfg.NodeKeyFile())
	if err != nil {
		return err
	}
	genesis := func() (*types.GenesisDoc, error) {
		g, err := genutiltypes.AppGenesisFromFile(cfg.GenesisFile())
		if err != nil {
			return nil, err
		}
		return g.ToGenesisDoc()
	}
	ends, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	n, err := node.NewNodeWithContext(ends, cfg,
		aiakos.New(cfg.RootDir+"/privyseal", (*pvm.FilePV)(nil), cryptoenc.PubKeyFromProto),
		nodeKey, proxy.NewLocalClientCreator(server.NewCometABCIWrapper(app)), genesis,
		config.DefaultDBProvider, node.DefaultMetricsProvider(cfg.Instrumentation),
		serverlog.CometLoggerWrapper{Logger: ctx.Logger})
	if err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	<-ends.Done()
	return n.Stop()
}
