// Command yubihsm serves a simulated YubiHSM 2 where yubihsm-connector would serve a real
// one, to try privyseal, tmkms or Yubico's programs without a device:
//
//	go run ./test/yubihsm
//
// The device is as it leaves the factory: authentication key 1 has the password "password".
// Everything in it is lost at the end. It keeps no secret from anybody on this host, so no
// validator's key belongs in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "yubihsm:", err)
		os.Exit(1)
	}
}

// run serves a device until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("yubihsm", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:12345", "address on loopback, HOST:PORT")
	serial := flags.Uint("serial", yubihsmtest.DefaultSerial, "serial number")
	signTime := flags.Duration("sign-time", 105*time.Millisecond, "what a signature takes, as on a real device")
	if err := flags.Parse(args); err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(*listen)
	if err != nil || !at.Addr().IsLoopback() {
		return fmt.Errorf("-listen %q is not HOST:PORT on loopback, as in 127.0.0.1:12345", *listen)
	}
	d, err := yubihsmtest.Launch(at.String(), yubihsmtest.Options{Serial: uint32(*serial), SignTime: *signTime, RealTime: true})
	if err != nil {
		return err
	}
	defer d.Stop()
	fmt.Fprintf(out, "a simulated YubiHSM %010d is at %s, until ^C; authentication key 1, password \"password\"\n", *serial, d.URL())
	<-ctx.Done()
	return nil
}
