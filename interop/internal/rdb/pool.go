package rdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/delayedq/delayed/interop/internal/connect"
	"github.com/delayedq/delayed/interop/internal/errs"
	"github.com/redis/go-redis/v9"
)

// pool sends commands over a client's pool, each of them once.
type pool struct {
	client redis.UniversalClient
}

// once is a command that go-redis does not repeat, whatever the client's MaxRetries.
type once struct {
	*redis.Cmd
}

func (once) NoRetry() bool { return true }

func newOnce(ctx context.Context, args []string) once {
	values := make([]any, len(args))
	for i, arg := range args {
		values[i] = arg
	}
	return once{redis.NewCmd(ctx, values...)}
}

func (p pool) Call(ctx context.Context, args ...string) (any, error) {
	command := newOnce(ctx, args)
	if len(args) > 3 && args[2] != "0" && (args[0] == "EVALSHA" || args[0] == "EVAL") {
		command.SetFirstKeyPos(3) // a cluster client routes by it
	}
	err := p.client.Process(ctx, command)
	if err == nil || errors.Is(err, redis.Nil) {
		return command.Val(), nil
	}
	return nil, connect.Told(p.client, unknown(err))
}

// unknown is the error of a command; unless that is Redis's own word, or nothing was sent, nobody knows what has become of it.
func unknown(err error) error {
	var answered redis.Error
	var failed *net.OpError
	if errors.Is(err, redis.ErrPoolTimeout) {
		return fmt.Errorf("no connection of the client was free in time, and nothing was sent: give it more (max_connections=… in the URL, or "+
			"PoolSize), or let fewer be busy at once: %w", err)
	}
	neverSent := errors.As(err, &failed) && failed.Op == "dial"
	if errors.As(err, &answered) || neverSent || errors.Is(err, redis.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", errs.ErrOutcomeUnknown, err)
}

// Certain is an error without the note that a command may or may not have been carried out: nothing has come of it.
func Certain(err error) error {
	if both, ok := err.(interface{ Unwrap() []error }); ok && errors.Is(err, errs.ErrOutcomeUnknown) { //nolint:errorlint // we have made it
		wrapped := both.Unwrap()
		return wrapped[len(wrapped)-1]
	}
	return err
}

// FailureIn is a reply that is an error.
func FailureIn(reply any) error {
	failure, _ := reply.(redis.Error)
	if failure == nil {
		return nil
	}
	return failure
}

// Batch sends commands at once, and once, over one connection of the pool, and gives each of them time. An error reply is a
// redis.Error among the replies. Other errors wrap errOutcomeUnknown if something was sent.
func (s *Store) Batch(ctx context.Context, extra time.Duration, commands ...[]string) ([]any, error) {
	for redirections := 0; ; redirections++ {
		single, err := s.server(ctx, redirections > 0)
		if err != nil {
			return nil, err
		}
		patience := single.Options().ReadTimeout
		if patience > 0 { // else there is no deadline
			patience = max(patience, time.Second) + extra // Redis looks ten times a second whether time is up
		}
		pipe := single.WithTimeout(patience).Pipeline()
		sent := make([]once, len(commands))
		for i, command := range commands {
			sent[i] = newOnce(ctx, command)
			if err := pipe.Process(ctx, sent[i]); err != nil {
				return nil, err
			}
		}
		_, broken := pipe.Exec(ctx)
		replies := make([]any, len(commands))
		for i, command := range sent {
			var answered redis.Error
			switch err := command.Err(); {
			case err == nil || errors.Is(err, redis.Nil):
				replies[i] = command.Val()
			case errors.As(err, &answered):
				replies[i] = answered
			default:
				return nil, unknown(broken)
			}
		}
		refusal := FailureIn(replies[0])
		if connect.Refused(refusal) {
			return nil, connect.Told(s.Client, refusal)
		}
		if refusal == nil || redirections == 4 || !redis.HasErrorPrefix(refusal, "MOVED") {
			return replies, nil
		}
		select { // the client learns of it behind our back
		case <-time.After(10 * time.Millisecond << redirections):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// server is the client of the one server that has the queue; again says that it has moved.
func (s *Store) server(ctx context.Context, again bool) (*redis.Client, error) {
	cluster, clustered := s.Client.(*redis.ClusterClient)
	if !clustered || again {
		return Master(ctx, s.Client, s.Keys.Queue)
	}
	return cluster.MasterForKey(ctx, s.Keys.Queue)
}

// Master is the client of one server: the master that Sentinel names is found by the client's own dialer.
func Master(ctx context.Context, client redis.UniversalClient, key string) (*redis.Client, error) {
	switch client := client.(type) {
	case *redis.Client:
		return client, nil
	case *redis.ClusterClient:
		client.ReloadState(ctx) // the servers may have changed roles
		return client.MasterForKey(ctx, key)
	}
	return nil, fmt.Errorf("%w: a worker needs a *redis.Client or a *redis.ClusterClient, not %T", errs.ErrConfiguration, client)
}
