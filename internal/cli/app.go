// Package cli is what the operator's commands have in common: the home folder that they
// work on, arguments and flags, errors and the exit statuses that they become, files
// that an operator names.
//
// It knows no provider and no store, and decides nothing that a signer does. It trusts
// the operator who types.
package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/shell"
)

// App is what the commands share.
type App struct {
	HomeFlag string
	Kinds    config.Kinds // what configs may have
	// AtHome are the commands of providers that work on a home folder, as in "nitro stop".
	AtHome []string
}

// Home returns the home folder, cleaned; it need not exist.
func (a *App) Home() (string, error) {
	if a.HomeFlag != "" {
		return filepath.Clean(a.HomeFlag), nil
	}
	if dir := os.Getenv("PRIVYSEAL_HOME"); dir != "" {
		return filepath.Clean(dir), nil
	}
	return "", cure.Add(Usagef("no home folder"), "add --home DIR, or set PRIVYSEAL_HOME, as in `export PRIVYSEAL_HOME=/var/lib/privyseal`")
}

// HomeNamed reports whether a home folder is named.
func (a *App) HomeNamed() bool { return a.HomeFlag != "" || os.Getenv("PRIVYSEAL_HOME") != "" }

// CheckOwner refuses to make files in a home folder of another user: the signer
// could not read them.
func (a *App) CheckOwner() error {
	dir, err := a.Home()
	if err != nil {
		return err
	}
	uid, gid, known := Owner(dir)
	if !known || uid == os.Geteuid() {
		return nil
	}
	other := Usagef("%s belongs to user %d, who could not use files that user %d creates there", dir, uid, os.Geteuid())
	become := []string{"sudo", "-u", "#" + strconv.Itoa(uid)}
	if c, err := a.ExistingConfig(); err == nil && c != nil && c.LowPorts() {
		// Behind a plain sudo the enclave's ports would be refused next.
		become = []string{"setpriv", "--reuid", strconv.Itoa(uid), "--regid", strconv.Itoa(gid), "--clear-groups",
			"--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"}
	} else if a.HomeFlag == "" { // sudo clears the environment
		become = append(become, "env", "PRIVYSEAL_HOME="+dir)
	}
	return cure.Add(other, "run it again with %s in front", cure.Command(become...))
}

// Owner returns to whom a file belongs; it is not known of one that is missing.
func Owner(path string) (uid, gid int, known bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, false
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}

// ConfigPath returns where the config is, or would be.
func (a *App) ConfigPath() (string, error) {
	dir, err := a.Home()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, config.FileName), nil
}

// Config loads the config.
func (a *App) Config() (*config.Config, error) {
	path, err := a.ConfigPath()
	if err != nil {
		return nil, err
	}
	c, err := a.Kinds.Load(path)
	if err != nil {
		return nil, BadConfig(err)
	}
	return c, nil
}

// ExistingConfig returns the config, or nil if there is none.
func (a *App) ExistingConfig() (*config.Config, error) {
	path, err := a.ConfigPath()
	if err != nil {
		return nil, nil // without a home folder there is none
	}
	c, err := a.Kinds.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, BadConfig(err)
	}
	return c, nil
}

// Command returns a command line to type next, for the same home.
func (a *App) Command(format string, args ...any) string {
	return "`" + a.Line(format, args...) + "`"
}

// Line is Command without the backticks.
func (a *App) Line(format string, args ...any) string {
	return "privyseal " + fmt.Sprintf(format, args...) + a.homeWords()
}

// homeWords are the words by which a command line names the home that was named on this
// one.
func (a *App) homeWords() string {
	if a.HomeFlag == "" {
		return ""
	}
	return " --home " + shell.Word(filepath.Clean(a.HomeFlag))
}

// InHome returns a text with the home in those of its command lines that lack it. The
// rooms below do not know of it: what they print is to be typed for any.
func (a *App) InHome(text string) string {
	if a.HomeFlag == "" {
		return text
	}
	parts := strings.Split(text, "`")
	for i := 1; i+1 < len(parts); i += 2 { // what stands between two of them
		if a.atHome(parts[i]) && !strings.Contains(parts[i], "--home ") && !strings.HasSuffix(parts[i], "--help") {
			line, open := strings.CutSuffix(parts[i], " …")
			if line += a.homeWords(); open {
				line += " …"
			}
			parts[i] = line
		}
	}
	return strings.Join(parts, "`")
}

// atHome reports whether a command line is to be typed for a home. A bare `privyseal start` or
// `privyseal init` is not: it is only mentioned.
func (a *App) atHome(line string) bool {
	typed, ours := strings.CutPrefix(line, "privyseal ")
	return homely.MatchString(line) || ours && slices.ContainsFunc(a.AtHome, func(command string) bool {
		return strings.HasPrefix(typed+" ", command+" ")
	})
}

// homely matches the command lines that do not come from providers.
var homely = regexp.MustCompile(`^privyseal (status|check|witness|(start|init|migrate|key show|state [a-z]+) .+)\b`)

// OfFlag says which flag names the file that cannot be read: a command has
// several.
func OfFlag(flag string, err error) error { return fmt.Errorf("--%s: %w", flag, err) }

// ReadBounded reads at most limit bytes of a file, or of a pipe as the shell's
// <(…) makes it; one with more is an error.
func ReadBounded(path string, limit int64) ([]byte, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

// WriteNew makes a file that is not there yet, and returns when it is durable.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return WriteNewFrom(path, mode, func() ([]byte, error) { return data, nil })
}

// WriteNewFrom is WriteNew for content that is made only if the file is not there.
func WriteNewFrom(path string, mode fs.FileMode, content func() ([]byte, error)) error {
	err := durable.CreateFrom(path, mode, content)
	if errors.Is(err, fs.ErrExist) {
		return Usage(existing(path))
	}
	return err
}

// existing is a file that is there already, an [fs.ErrExist].
type existing string

func (path existing) Error() string {
	return string(path) + " already exists, and nothing is overwritten; move it away or choose another name"
}

func (existing) Unwrap() error { return fs.ErrExist }
