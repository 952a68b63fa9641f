package vault

import "context"

// call makes a request with our token and decodes the data of its answer into out,
// which may be nil. It makes it once more where that may help: with a new token, or on
// a new connection.
func (c *Client) call(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*max(c.c.Timeout, r.patience))
	defer cancel()
	s, err := c.current(ctx)
	if err != nil {
		return err
	}
	failed := c.exchange(ctx, s.token, r, out)
	switch {
	case failed == nil:
		return nil
	case r.patience == 0 && (failed.reason == slow || failed.reason == broken):
		// A connection that died silently: the others have probably died too.
		c.http.CloseIdleConnections()
	case s.lost(failed.reason):
		if s, err = c.renewed(ctx, s); err != nil {
			return err
		}
		if s == nil {
			return failed
		}
	default:
		return failed
	}
	if again := c.exchange(ctx, s.token, r, out); again != nil {
		return again
	}
	return nil
}
