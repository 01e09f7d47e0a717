package delayed

import (
	"context"
	"fmt"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/connect"
	"github.com/redis/go-redis/v9"
)

// Connect makes a client for the same URLs as the Python package: `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS),
// `unix://[…@]/path.sock[?db=0]`; `redis+sentinel://[…@]host[:port][,host[:port]…]/service[/db]` for the primary that Sentinel names;
// `redis+cluster://[…@]host[:port][,host[:port]…]` for some nodes of a cluster (both with `rediss+` for TLS). Each with options as query,
// such as `?socket_timeout=3&ssl_ca_certs=/ca.pem`: see docs/operations.md. Any other client of go-redis serves as well. The error wraps
// ErrConfiguration, and shows no password.
func Connect(url string) (redis.UniversalClient, error) { return connect.NewClient(url) }

// admitted asks the server once whether it lets us in. One that cannot be asked now may be up later: that is no error. The error wraps
// ErrConfiguration.
func (q *Queue) admitted(ctx context.Context) error {
	c, err := conn.DialBare(ctx, q.store.Client, q.store.Keys.Queue)
	if err == nil {
		_, err = c.Call(ctx, "PING")
		c.Close()
	}
	if !connect.Refused(err) {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfiguration, connect.Told(q.store.Client, err))
}
