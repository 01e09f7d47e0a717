package delayed

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// store is a queue as it stands in Redis: one short method, or one command, for each Lua script. It is safe for use by many goroutines.
type store struct {
	Keys   Keys
	client redis.UniversalClient
	caller caller
}

// newStore sends commands over the client's pool, each of them once.
func newStore(keys Keys, client redis.UniversalClient) *store {
	return &store{keys, client, pooled{client}}
}

// over is the same store with its commands sent through another caller, for example a worker's own connection.
func (s *store) over(c caller) *store { return &store{s.Keys, s.client, c} }

// clustered tells whether the queue is on Redis Cluster.
func (s *store) clustered() bool {
	_, clustered := s.client.(*redis.ClusterClient)
	return clustered
}

// caller runs one Redis command and returns its reply, over a client's pool or over one connection.
type caller interface {
	call(ctx context.Context, args ...string) (any, error)
}

func (s *store) run(ctx context.Context, name string, keys []string, args ...string) (any, error) {
	return s.send(ctx, scriptCall(name, keys, args...))
}

// send sends the command that runs a script.
func (s *store) send(ctx context.Context, command []string) (any, error) {
	reply, err := s.caller.call(ctx, command...)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		return s.caller.call(ctx, withSource(command)...)
	}
	return reply, err
}

func (s *store) counted(ctx context.Context, command []string) (int, error) {
	reply, err := s.send(ctx, command)
	n, _ := reply.(int64)
	return int(n), err
}

func (s *store) count(ctx context.Context, name string, keys []string, args ...string) (int, error) {
	return s.counted(ctx, scriptCall(name, keys, args...))
}

func (s *store) numbers(ctx context.Context, name string, keys []string, args ...string) ([4]int, error) {
	var numbers [4]int
	reply, err := s.run(ctx, name, keys, args...)
	values, _ := reply.([]any)
	for i, value := range values[:min(len(numbers), len(values))] {
		n, _ := value.(int64)
		numbers[i] = int(n)
	}
	return numbers, err
}

// bulk is a bulk string, as bytes, whichever connection it came over.
func bulk(value any) []byte {
	switch value := value.(type) {
	case []byte:
		return value
	case string:
		return []byte(value)
	}
	return nil
}

// fieldsOf is a hash, in the form of RESP2 or of RESP3.
func fieldsOf(reply any) map[string]string {
	fields := map[string]string{}
	switch reply := reply.(type) {
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			fields[string(bulk(reply[i]))] = string(bulk(reply[i+1]))
		}
	case map[any]any:
		for name, value := range reply {
			fields[string(bulk(name))] = string(bulk(value))
		}
	}
	return fields
}

// scriptCall is the command that runs a script, for who sends it himself.
func scriptCall(name string, keys []string, args ...string) []string {
	return scripts[name].command(keys, args)
}
