// Command sdk is a chain of the Cosmos SDK, as small as one can be: accounts, coins and
// validators. `start` is the SDK's own, in which doc/in-process.md changes a line, and
// `start-inside` has privyseal in it without such a change.
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"

	"cosmossdk.io/depinject"
	"cosmossdk.io/log"
	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/flags"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/server"
	svrcmd "github.com/cosmos/cosmos-sdk/server/cmd"
	serverconfig "github.com/cosmos/cosmos-sdk/server/config"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	"github.com/cosmos/cosmos-sdk/testutil/configurator"
	"github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	_ "github.com/cosmos/cosmos-sdk/x/auth"
	_ "github.com/cosmos/cosmos-sdk/x/auth/tx/config"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	_ "github.com/cosmos/cosmos-sdk/x/bank"
	_ "github.com/cosmos/cosmos-sdk/x/consensus"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	_ "github.com/cosmos/cosmos-sdk/x/staking"
	"github.com/spf13/cobra"
)

// modules are those of the chain.
func modules() depinject.Config {
	return configurator.NewAppConfig(
		configurator.AuthModule(), configurator.BankModule(), configurator.StakingModule(),
		configurator.TxModule(), configurator.ConsensusModule(), configurator.GenutilModule(),
	)
}

// build makes the application, and fills what else is asked for.
func build(logger log.Logger, db dbm.DB, trace io.Writer, options []func(*baseapp.BaseApp), more ...any) (*runtime.App, error) {
	var builder *runtime.AppBuilder
	if err := depinject.Inject(depinject.Configs(modules(), depinject.Supply(logger)), append(more, &builder)...); err != nil {
		return nil, err
	}
	app := builder.Build(db, trace, options...)
	return app, app.Load(true)
}

func newApp(logger log.Logger, db dbm.DB, trace io.Writer, opts servertypes.AppOptions) servertypes.Application {
	app, err := build(logger, db, trace, server.DefaultBaseappOptions(opts))
	if err != nil {
		panic(err)
	}
	return app
}

func noExport(log.Logger, dbm.DB, io.Writer, int64, bool, []string, servertypes.AppOptions, []string) (servertypes.ExportedApp, error) {
	return servertypes.ExportedApp{}, errors.New("nothing is exported")
}

// initChain makes the home folder of a chain with one validator, whose Ed25519 key is in
// base64.
func initChain(home, chainID, key string) error {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return err
	}
	var encoding codec.Codec
	app, err := build(log.NewNopLogger(), dbm.NewMemDB(), nil, nil, &encoding)
	if err != nil {
		return err
	}
	owner := authtypes.NewBaseAccountWithAddress(sdk.AccAddress(raw[:20]))
	validators := types.NewValidatorSet([]*types.Validator{types.NewValidator(ed25519.PubKey(raw), 1)})
	state, err := sims.GenesisStateWithValSet(encoding, app.DefaultGenesis(), validators, []authtypes.GenesisAccount{owner})
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(state, "", " ")
	if err != nil {
		return err
	}
	cfg := config.DefaultConfig().SetRoot(home)
	config.EnsureRoot(home)
	genesis := genutiltypes.NewAppGenesisWithVersion(chainID, text)
	genesis.Consensus = &genutiltypes.ConsensusGenesis{Params: types.DefaultConsensusParams()}
	return genutil.ExportGenesisFile(genesis, cfg.GenesisFile())
}

func main() {
	root := &cobra.Command{Use: "sdk", SilenceUsage: true, PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
		home, err := cmd.Flags().GetString(flags.FlagHome)
		if err != nil {
			return err
		}
		var registry codectypes.InterfaceRegistry
		var encoding codec.Codec
		var txConfig client.TxConfig
		if _, err := build(log.NewNopLogger(), dbm.NewMemDB(), nil, nil, &registry, &encoding, &txConfig); err != nil {
			return err
		}
		ctx := client.Context{}.WithHomeDir(home).WithCodec(encoding).WithInterfaceRegistry(registry).WithTxConfig(txConfig).WithViper("")
		if err := client.SetCmdClientContextHandler(ctx, cmd); err != nil {
			return err
		}
		return server.InterceptConfigsPreRunHandler(cmd, serverconfig.DefaultConfigTemplate, serverconfig.DefaultConfig(), config.DefaultConfig())
	}}
	root.AddCommand(&cobra.Command{Use: "init CHAIN-ID KEY", Args: cobra.ExactArgs(2), PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := cmd.Flags().GetString(flags.FlagHome)
			if err != nil {
				return err
			}
			return initChain(home, args[0], args[1])
		}})
	inside := server.StartCmdWithOptions(newApp, "", server.StartCmdOptions{StartCommandHandler: startInside})
	inside.Use = "start-inside"
	root.AddCommand(inside)
	server.AddCommands(root, "", newApp, noExport, func(*cobra.Command) {})
	if svrcmd.Execute(root, "", "") != nil {
		os.Exit(1)
	}
}
