// Package setup is `privyseal yubihsm setup`: a YubiHSM 2 with the roles and the wrap key that
// 24 words make, new ones or given ones, as tmkms sets it up.
//
// The words are shown to nobody but the person at the terminal, and are asked back before
// anything on the device changes. What was there before is erased only if its serial number
// was typed.
package setup

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/key/yubihsm/provision"
	"privyseal/internal/terminal"
)

// New returns `privyseal yubihsm setup`.
func New(app *cli.App) *cobra.Command {
	return (&setting{app: app, tty: terminal.Controlling}).command()
}

func (s *setting) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "setup --device ADDRESS",
		Short: "Set a device up from 24 words, new or given ones",
		Long: `Set a device up as tmkms does: authentication keys for an administrator (1), an
operator (2), an auditor (3) and a validator (4), wrap key 1 for backups, and a report.
All secrets of these come from 24 words, to which the device and this host both give
randomness. A device that one of the two has set up works with the other.

The words are shown once, at the terminal, to be written down on paper, and asked back
before anything changes. They are the administrator's password, and the only way to set
up another device, or this one again, so that backups can be restored. They are stored
nowhere. The passwords of the other roles go into new files.

A device that is not empty is erased first, if its serial number is typed; that takes an
authentication key with the right to reset it. With --restore the words are asked for. A
set-up that was interrupted is finished by its words, and a device that the words have
set up is left as it is, and the files are written again.`,
		Example: `  privyseal yubihsm setup --device usb://0123456789
  privyseal yubihsm setup --device usb://0123456790 --restore`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
			defer stop()
			signal.Ignore(syscall.SIGTSTP) // with ^Z the words would stay on the screen
			s.Writer, s.given = cmd.OutOrStdout(), cmd.Flags().Changed
			return s.run(ctx)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&s.device.Address, "device", "", "usb://SERIAL, or http://HOST:PORT of a yubihsm-connector on this host")
	fl.BoolVar(&s.restore, "restore", false, "ask for the words of a device that was set up before, also by tmkms, and do not make new ones")
	fl.StringVar(&s.wordsFile, "words-file", "", "with --restore: file with the 24 words, mode 0600, in place of the terminal")
	fl.StringVar(&s.dir, "password-dir", "", "folder for the files with the passwords (default: yubihsm-SERIAL)")
	fl.StringVar(&s.serial, "serial", "", "serial number of the device, to erase it if it is not empty; without it the terminal asks")
	fl.Uint16Var(&s.old.ID, "auth-key", provision.Admin, "to erase the device: object id of an authentication key that may reset it")
	fl.StringVar(&s.old.File, "password-file", "", "to erase the device: file with its password, mode 0600; without it the terminal asks")
	return cmd
}
