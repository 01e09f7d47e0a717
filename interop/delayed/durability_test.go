package delayed

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

func onPrimary(t *testing.T, client redis.UniversalClient, name string, options ...QueueOption) *Queue {
	t.Helper()
	queue, err := NewQueue(name, client, options...)
	must(t, err)
	return queue
}

// primaryWithReplica is a server that writes everything to its disk, and has one replica.
func primaryWithReplica(t *testing.T) redis.UniversalClient {
	t.Helper()
	port := freePort(t)
	serverWith(t, port, "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
	serverWith(t, freePort(t), "--replicaof", "127.0.0.1", strconv.Itoa(port))
	client, err := Connect("redis://127.0.0.1:" + strconv.Itoa(port))
	must(t, err)
	t.Cleanup(func() { client.Close() })
	eventually(t, "the replica is in step", func() bool { return client.Do(ctx, "WAIT", 1, 100).Val() == int64(1) })
	return client
}

func TestWhatIsNoDurability(t *testing.T) {
	client := connectTo(t, shared)
	for _, text := range []string{"", "disk", "replicas", "replicas:", "replicas:0", "replicas:-1", "replicas:1.5", "AOF", "aof\n"} {
		if _, err := NewQueue("q", client, Durability(text)); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, d := range []time.Duration{0, -1, time.Microsecond, time.Hour} {
		if _, err := NewQueue("q", client, Durability("aof"), DurabilityTimeout(d)); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

func TestDurableTasks(t *testing.T) {
	client := primaryWithReplica(t)
	for _, text := range []string{"aof", "replicas:1"} {
		queue := onPrimary(t, client, "q"+rdb.Token(), Durability(text))
		enqueue(t, queue, NewGoTask("main.F"))
		handle, err := queue.Submit(ctx, NewGoTask("main.F").With(Track()))
		if err != nil || handle.ID == "" {
			t.Error(handle, err)
		}
		n, err := queue.EnqueueMany(ctx, many(2500, func(i int) Task { return NewGoTask("main.F", i) }))
		if err != nil || n != 2500 || length(t, queue) != 2502 {
			t.Error(n, err)
		}
	}
	queue := onPrimary(t, client, "q"+rdb.Token(), Durability("replicas:2"), DurabilityTimeout(50*time.Millisecond))
	err := queue.Enqueue(ctx, NewGoTask("main.F"))
	var not *NotDurable
	if !errors.As(err, &not) || not.Acknowledged != 1 || !errors.Is(err, ErrNotDurable) || length(t, queue) != 1 {
		t.Error(err)
	}
	if text := err.Error(); !strings.Contains(text, "1 of 2 replicas had the task after 50ms; the task is on the primary") {
		t.Error(text)
	}
	if _, err := queue.Submit(ctx, NewGoTask("main.F").With(Track())); !errors.Is(err, ErrNotDurable) || length(t, queue) != 2 {
		t.Error(err)
	}
	if n, err := queue.EnqueueMany(ctx, many(3, func(i int) Task { return NewGoTask("main.F", i) })); n != 0 || !errors.Is(err, ErrNotDurable) {
		t.Error(n, err)
	}
	must(t, client.Set(ctx, queue.Name()+"x", "not a list", 0).Err())
	queue.store.Keys.Queue += "x"
	if err := queue.Enqueue(ctx, NewGoTask("main.F")); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") || errors.Is(err, ErrNotDurable) {
		t.Error(err)
	}
}

// A proof that takes longer than the client waits for other replies is waited for.
func TestADurabilityTimeoutAboveTheClientsOwn(t *testing.T) {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: shared.socket(), ReadTimeout: 50 * time.Millisecond})
	defer client.Close()
	queue := onPrimary(t, client, "q"+rdb.Token(), Durability("replicas:1"), DurabilityTimeout(300*time.Millisecond))
	if err := queue.Enqueue(ctx, NewGoTask("main.F")); !errors.Is(err, ErrNotDurable) {
		t.Error(err)
	}
}

func TestAServerThatIsSetOtherwiseMeanwhile(t *testing.T) {
	redisServer := own(t)
	client := connectTo(t, redisServer)
	queue := onPrimary(t, client, "q"+rdb.Token(), Durability("aof"), DurabilityTimeout(200*time.Millisecond))
	enqueue(t, queue, NewGoTask("main.F"))
	must(t, client.ConfigSet(ctx, "appendonly", "no").Err())
	if err := queue.Enqueue(ctx, NewGoTask("main.F")); !errors.Is(err, ErrNotDurable) || length(t, queue) != 2 {
		t.Error(err)
	}
	for range 2 { // it asks again, before it enqueues
		if err := queue.Enqueue(ctx, NewGoTask("main.F")); !errors.Is(err, ErrConfiguration) || length(t, queue) != 2 {
			t.Error(err)
		}
	}
	must(t, client.ConfigSet(ctx, "appendonly", "yes").Err())
	eventually(t, "the file is written", func() bool {
		info := client.Info(ctx, "persistence").Val()
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
	enqueue(t, queue, NewGoTask("main.F"))
}

func TestHowTheDiskProvesIt(t *testing.T) {
	unknown := conn.ReplyError("ERR unknown command 'WAITAOF', with args beginning with: '1'")
	forbidden := conn.ReplyError("NOPERM this user has no permissions to run the 'waitaof' command")
	config := func(fsync string) any { return []any{"appendonly", "yes", "appendfsync", fsync} }
	for _, refusal := range []conn.ReplyError{unknown, forbidden} {
		if proof, err := aofProof(refusal, config("always"), "3000"); err != nil || proof[0] != "CONFIG" {
			t.Error(proof, err)
		}
		if _, err := aofProof(refusal, config("everysec"), "3000"); !errors.Is(err, ErrConfiguration) || !strings.Contains(err.Error(), "neither") {
			t.Error(err)
		}
		if _, err := aofProof(refusal, forbidden, "3000"); !errors.Is(err, ErrConfiguration) || !strings.Contains(err.Error(), "Allow one") {
			t.Error(err)
		}
	}
	proof, err := aofProof([]any{int64(1), int64(0)}, forbidden, "3000")
	if err != nil || strings.Join(proof, " ") != "WAITAOF 1 0 3000" {
		t.Error(proof, err)
	}
	replica := conn.ReplyError("ERR WAITAOF cannot be used with replica instances.")
	if _, err := aofProof(replica, config("always"), "3000"); err == nil || errors.Is(err, ErrConfiguration) {
		t.Error("a replica is no wrong setting", err)
	}
	d := &durability{text: "aof", timeout: time.Second}
	for _, vector := range []struct {
		proof string
		reply any
		fine  bool
	}{
		{"WAITAOF", []any{int64(1), int64(0)}, true}, {"WAITAOF", []any{int64(0), int64(0)}, false}, {"WAITAOF", conn.ReplyError("ERR x"), false},
		{"CONFIG", config("always"), true}, {"CONFIG", map[any]any{"appendonly": "yes", "appendfsync": "always"}, true},
		{"CONFIG", config("everysec"), false}, {"CONFIG", []any{}, false},
	} {
		if err := d.judge([]string{vector.proof}, vector.reply); (err == nil) != vector.fine || err != nil && !errors.Is(err, ErrNotDurable) {
			t.Errorf("%v: %v", vector, err)
		}
	}
}
