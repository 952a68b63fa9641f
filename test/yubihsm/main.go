// Command yubihsm serves a simulated YubiHSM 2 where yubihsm-connector would serve a real
// one, to try privyseal, tmkms or Yubico's programs without a device:
//
//	go run ./test/yubihsm -certificates /tmp
//
// root.pem and sub-ca.pem are then what its attestations lead to, for the flags --root and
// --sub-ca of privyseal. The device is as it leaves the factory: authentication key 1 has the password "password".
// Everything in it is lost at the end. It keeps no secret from anybody on this host, so no
// validator's key belongs in it.
package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
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
	certificates := flags.String("certificates", "", "folder to write root.pem and sub-ca.pem into, which its attestations lead to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
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
	if *certificates != "" {
		if err := write(d, *certificates); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "a simulated YubiHSM %010d is at %s, until ^C; authentication key 1, password \"password\"\n", *serial, d.URL())
	<-ctx.Done()
	return nil
}

// write writes the certificates that the attestations of a device lead to.
func write(d *yubihsmtest.Device, folder string) error {
	root, middle := d.Root()
	for name, c := range map[string]*x509.Certificate{"root.pem": root, "sub-ca.pem": middle} {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
