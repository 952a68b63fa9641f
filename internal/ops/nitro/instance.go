package nitro

import (
	"context"
	"fmt"

	"privyseal/internal/enclavehost"
	"privyseal/internal/nitrohost"
	"privyseal/internal/vsock"
)

// instance launches an enclave of this instance, and reaches it by vsock.
type instance struct {
	*nitrohost.Launcher
	// transport is the folder with the unix sockets of the monitor that the enclave runs in;
	// empty is AF_VSOCK, whose ports all enclaves of an instance share.
	transport string
}

// Ensure implements [enclavehost.Launcher]; it launches none that this process may not serve.
func (i instance) Ensure(ctx context.Context) (enclavehost.Enclave, bool, error) {
	if err := (vsock.Host{Dir: i.transport}).MayServe(); err != nil {
		return enclavehost.Enclave{}, false, fmt.Errorf("cannot serve the enclave: %w", err)
	}
	e, adopted, err := i.Launcher.Ensure(ctx)
	about := []any{"cid", e.CID, "memory_mib", i.MemoryMiB, "cpus", i.CPUs}
	return enclavehost.Enclave{ID: e.ID, Link: vsock.Host{CID: e.CID, Dir: i.transport}, About: about}, adopted, err
}
