package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	hsm "privyseal/yubihsm"
)

// detectTime bounds the wait for one device or connector.
const detectTime = 5 * time.Second

// search looks for devices.
type search struct {
	io.Writer
	connectors []string
	given      bool // the connectors, by the operator
	usb        func() ([]uint32, error)
	open       func(address string) (hsm.Transport, error)
}

func newDetectCommand() *cobra.Command {
	s := search{usb: hsm.DetectUSB, open: hsm.Open}
	cmd := &cobra.Command{
		Use:   "detect [--connector http://HOST:PORT]…",
		Short: "Find the devices on the USB and at connectors",
		Long: `Find the devices on the USB and at connectors, and ask each for its serial number and
firmware. No password is needed, and nothing authenticates the answers. A device whose
connector has it shows twice: at the connector, and in use by another program on the USB.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.Writer, s.given = cmd.OutOrStdout(), cmd.Flags().Changed("connector")
			return s.run(cmd.Context())
		},
	}
	cmd.Flags().StringArrayVar(&s.connectors, "connector", []string{hsm.DefaultConnector}, "address of a yubihsm-connector; may be given several times")
	return cmd
}

// run prints a line for each place where a device may be. It fails if a connector that was
// given has no device, or if there is none at all.
func (s search) run(ctx context.Context) error {
	var connectors []*hsm.Connector
	for _, address := range s.connectors {
		c, err := hsm.NewConnector(address)
		if err != nil {
			return cli.Usagef("--connector: %w", err)
		}
		defer c.Close()
		connectors = append(connectors, c)
	}
	found := 0
	var failed []error
	serials, err := s.usb()
	if err != nil {
		failed = append(failed, err)
	}
	slices.Sort(serials)
	for _, serial := range serials {
		address := fmt.Sprintf("usb://%010d", serial)
		if err := s.show(ctx, address); err != nil {
			failed = append(failed, err)
		}
		found++
	}
	for _, c := range connectors {
		switch err := s.connector(ctx, c); {
		case err == nil:
			found++
		case s.given || !isAway(err):
			failed = append(failed, err)
		}
	}
	if found == 0 && len(failed) == 0 {
		return fmt.Errorf("there is no YubiHSM 2 on the USB, and no connector at %s", strings.Join(s.connectors, ", "))
	}
	return errors.Join(failed...)
}

// isAway reports whether nobody listens at a connector's address.
func isAway(err error) bool {
	connector, ok := errors.AsType[*hsm.ConnectorError](err)
	return ok && connector.Unsent
}

// show prints what a device on the USB says. One that another program has is not one that
// failed.
func (s search) show(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, detectTime)
	defer cancel()
	transport, err := s.open(address)
	if err != nil {
		return err
	}
	defer transport.Close()
	info, err := hsm.ReadDeviceInfo(ctx, transport)
	if isBusy(err) {
		fmt.Fprintf(s, "%s: in use by another program, as by yubihsm-connector or a signer\n", address)
		return nil
	}
	if err != nil {
		fmt.Fprintf(s, "%s: cannot be used\n", address)
		return err
	}
	fmt.Fprintf(s, "%s: %v\n", address, info)
	return nil
}

// connector prints what a connector and its device say.
func (s search) connector(ctx context.Context, c *hsm.Connector) error {
	ctx, cancel := context.WithTimeout(ctx, detectTime)
	defer cancel()
	status, err := c.Status(ctx)
	if err != nil {
		return notConnector(c.String(), err)
	}
	if !status.Device {
		return fmt.Errorf("the connector at %s has no device", c)
	}
	info, err := hsm.ReadDeviceInfo(ctx, c)
	if err != nil {
		return notConnector(c.String(), err)
	}
	fmt.Fprintf(s, "%s: %v, at connector version %.40q\n", c, info, status.Version)
	return nil
}

// notConnector says that an answer is not a connector's.
func notConnector(address string, err error) error {
	if errors.Is(err, hsm.ErrMalformed) {
		return fmt.Errorf("what answers at %s is not a YubiHSM connector: %w", address, err)
	}
	return err
}
