// Package rdb is a queue as it stands in Redis: its keys, the scripts of lua/, and one method for each of them.
package rdb

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Store is a queue as it stands in Redis: one short method, or one command, for each Lua script. It is safe for use by many goroutines.
type Store struct {
	Keys   Keys
	Client redis.UniversalClient
	Caller Caller
}

// NewStore sends commands over the client's pool, each of them once.
func NewStore(keys Keys, client redis.UniversalClient) *Store {
	return &Store{keys, client, pool{client}}
}

// Over is the same store with its commands sent through another caller, for example a worker's own connection.
func (s *Store) Over(c Caller) *Store { return &Store{s.Keys, s.Client, c} }

// At is another queue: its commands are sent the same way, or, if it may be on another node of a cluster, over the client's pool.
func (s *Store) At(keys Keys) *Store {
	if s.Reaches(keys.Queue) {
		return &Store{keys, s.Client, s.Caller}
	}
	return NewStore(keys, s.Client)
}

// clustered reports whether the queue is on Redis Cluster.
func (s *Store) clustered() bool {
	_, clustered := s.Client.(*redis.ClusterClient)
	return clustered
}

// Caller runs one Redis command and returns its reply, over a client's pool or over one connection.
type Caller interface {
	Call(ctx context.Context, args ...string) (any, error)
}

func (s *Store) Run(ctx context.Context, name string, keys []string, args ...string) (any, error) {
	return s.Send(ctx, ScriptCall(name, keys, args...))
}

// Send sends the command that runs a script.
func (s *Store) Send(ctx context.Context, command []string) (any, error) {
	reply, err := s.Caller.Call(ctx, command...)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		return s.Caller.Call(ctx, WithSource(command)...)
	}
	return reply, err
}

func (s *Store) counted(ctx context.Context, command []string) (int, error) {
	reply, err := s.Send(ctx, command)
	n, _ := reply.(int64)
	return int(n), err
}

func (s *Store) count(ctx context.Context, name string, keys []string, args ...string) (int, error) {
	return s.counted(ctx, ScriptCall(name, keys, args...))
}

func (s *Store) numbers(ctx context.Context, name string, keys []string, args ...string) ([4]int, error) {
	var numbers [4]int
	reply, err := s.Run(ctx, name, keys, args...)
	values, _ := reply.([]any)
	for i, value := range values[:min(len(numbers), len(values))] {
		n, _ := value.(int64)
		numbers[i] = int(n)
	}
	return numbers, err
}

// Bulk is a bulk string, as bytes, whichever connection it came over.
func Bulk(value any) []byte {
	switch value := value.(type) {
	case []byte:
		return value
	case string:
		return []byte(value)
	}
	return nil
}

// Strings are the bulk strings of an array.
func Strings(reply any) []string {
	values, _ := reply.([]any)
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = string(Bulk(value))
	}
	return texts
}

// Fields is a hash, in the form of RESP2 or of RESP3.
func Fields(reply any) map[string]string {
	fields := map[string]string{}
	switch reply := reply.(type) {
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			fields[string(Bulk(reply[i]))] = string(Bulk(reply[i+1]))
		}
	case map[any]any:
		for name, value := range reply {
			fields[string(Bulk(name))] = string(Bulk(value))
		}
	}
	return fields
}

// ScriptCall is the command that runs a script, for who sends it himself.
func ScriptCall(name string, keys []string, args ...string) []string {
	return Scripts[name].command(keys, args)
}
