package nitro

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/hostlink"
	"privyseal/internal/nitro/nsm"
	"privyseal/internal/policy"
	"privyseal/internal/vsock"
)

// Start is the program of the image, as its first process. It returns only with
// an error, after which the enclave is to end.
func Start(version string) error {
	if err := mount(); err != nil {
		return err
	}
	if err := endEarly("/proc/sys"); err != nil {
		return err
	}
	if err := loadModule(); err != nil {
		return err
	}
	module, err := nsm.Open("/dev/nsm")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; the kernel lacks the driver: build the image with its nsm.ko (--nsm-module), or with the kernel of a release", err)
	}
	if err != nil {
		return err
	}
	if err := seedKernel(module); err != nil {
		return err
	}
	ctx := context.Background()
	warnings := keepTime(ctx)
	if err := sendHeartbeat(ctx); err != nil {
		return err
	}
	// The policy is in the image's second ramdisk, which PCR2 measures.
	data, err := os.ReadFile("/" + policy.File)
	if err != nil {
		return fmt.Errorf("the image has no policy: %w", err)
	}
	return Run(ctx, Boot{Version: version, Policy: data, Module: module, Listen: listen, Dial: dial, Warnings: warnings})
}

// keepTime sets the system's clock by the hypervisor's, now and for as long as ctx lasts, and
// says if there is nothing to set it by.
func keepTime(ctx context.Context) (warnings []string) {
	sys := os.DirFS("/sys")
	name := hypervisorClock(sys)
	if name == "" {
		return clockWarnings(sys)
	}
	f, err := os.Open(filepath.Join("/dev", name))
	if err != nil {
		return []string{fmt.Sprintf("the clock of the hypervisor cannot be read: %v", err)}
	}
	c := clock{
		read: func() (time.Time, error) {
			var ts unix.Timespec
			// FD_TO_CLOCKID of the kernel's Documentation/driver-api/ptp.rst.
			err := unix.ClockGettime(^int32(f.Fd())<<3|3, &ts)
			return time.Unix(ts.Unix()), err
		},
		set: func(t time.Time) error {
			ts, err := unix.TimeToTimespec(t)
			if err != nil {
				return err
			}
			return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
		},
	}
	c.correct()
	go func() {
		defer f.Close()
		c.follow(ctx)
	}()
	return nil
}

func listen(port uint32) (net.Listener, error) {
	l, err := vsock.Listen(port)
	if err != nil {
		return nil, err
	}
	return vsock.OnlyReserved(l), nil
}

func dial(ctx context.Context, port uint32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return vsock.Dial(ctx, vsock.CIDParent, port)
}

func sendHeartbeat(ctx context.Context) error {
	conn, err := dial(ctx, hostlink.HeartbeatPort)
	if err != nil {
		return fmt.Errorf("cannot send the heartbeat: %w", err)
	}
	defer conn.Close()
	return heartbeat(conn)
}
