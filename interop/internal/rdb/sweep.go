package rdb

import (
	"context"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	repairStep  = 4000    // notifications that one call of Repair adds or removes at most
	sweptAtOnce = 100     // leases in one call of the script sweep, …
	sweptBytes  = 1 << 20 // … and bytes of what they hold
	waitedPage  = 100     // keys that tasks wait for, in one call of Wake
)

// Page lists some leases named in the hash key (Keys.Processing or Keys.Workers), and the cursor of the next page or "0".
func (s *Store) Page(ctx context.Context, key, cursor string, count int) (next string, leases []string, err error) {
	reply, err := s.Run(ctx, "page", []string{key}, cursor, strconv.Itoa(count))
	values, _ := reply.([]any)
	if err != nil || len(values) == 0 {
		return "0", nil, err
	}
	return string(Bulk(values[0])), Strings(values[1:]), nil
}

// Alive is how many of the leases live.
func (s *Store) Alive(ctx context.Context, leases []string) (int, error) {
	if len(leases) == 0 {
		return 0, nil
	}
	reply, err := s.Caller.Call(ctx, append([]string{"EXISTS"}, leases...)...)
	n, _ := reply.(int64)
	return int(n), err
}

// SweepResult is what Sweep did.
type SweepResult struct {
	Recovered int  // tasks put back
	Buried    int  // tasks lost too often
	More      bool // there was too much for one call
}

// Gone are those of the leases that are dead and hold something, and how many bytes.
func (s *Store) Gone(ctx context.Context, leases []string) (dead []string, sizes []int64, err error) {
	if len(leases) == 0 {
		return nil, nil, nil
	}
	reply, err := s.Run(ctx, "gone", append([]string{s.Keys.Processing}, leases...))
	values, _ := reply.([]any)
	if err != nil || len(values) != len(leases) {
		return nil, nil, err
	}
	for i, value := range values {
		if size, _ := value.(int64); size > 0 {
			dead, sizes = append(dead, leases[i]), append(sizes, size)
		}
	}
	return dead, sizes, nil
}

// Sweep ends those of the leases that have died, as many as one call may: their tasks go back to the head of the queue, or, at the
// limit-th loss, to the dead letters. pass is a token of one walk over the queue.
func (s *Store) Sweep(ctx context.Context, leases []string, limit int, pass, sweeper string) (SweepResult, error) {
	k := s.Keys
	dead, sizes, err := s.Gone(ctx, leases)
	if err != nil || len(dead) == 0 {
		return SweepResult{}, err
	}
	count := 0
	for left := int64(sweptBytes); count < min(len(dead), sweptAtOnce) && left >= 0; count++ {
		left -= sizes[count]
	}
	reply, err := s.Caller.Call(ctx, append([]string{"HMGET", k.Processing}, dead[:count]...)...)
	held, _ := reply.([]any)
	if err != nil || len(held) != count {
		return SweepResult{}, err
	}
	keys, args := append(k.home(), k.Lost, k.Dead, k.Stats, k.Bucket, k.History, k.Control), []string{strconv.Itoa(limit), pass, sweeper, ""}
	for i, name := range dead[:count] {
		_, headers, _ := wire.Peek(Bulk(held[i]))
		h, running := HoldsOf(&headers), ""
		if h.Mode == wire.WhileRunning {
			running = "running"
		}
		word, own := k.several(h)
		told, entry := s.told(h.Member, "e", "f ")
		keys = append(append(append(keys, name), own...), told...)
		args = append(args, word, Milliseconds(KeepsOf(&headers)), running, entry)
	}
	n, err := s.numbers(ctx, "sweep", keys, args...)
	return SweepResult{Recovered: n[0], Buried: n[1], More: n[2] != 0 || count < len(dead)}, err
}

// Repair brings the notifications nearer to one for each waiting task. It returns how many were added, removed, and are left for
// another call.
func (s *Store) Repair(ctx context.Context) (added, removed, left int, err error) {
	n, err := s.numbers(ctx, "repair", []string{s.Keys.Queue, s.Keys.Noti}, strconv.Itoa(repairStep))
	return n[0], n[1], n[2], err
}

// Prune strikes workers whose own lease has died off the register. It returns how many.
func (s *Store) Prune(ctx context.Context, leases []string) (int, error) {
	return s.count(ctx, "prune", append([]string{s.Keys.Workers}, leases...))
}

// Wake lets tasks go on that wait for a key which is free. waiting is what is known of sets of tasks that wait, as Keys.Waited says it.
// It returns how many were woken.
func (s *Store) Wake(ctx context.Context, waiting map[string]string) (int, error) {
	keys, args := s.Keys.home(), []string(nil)
	for name, what := range waiting {
		found := sought.FindStringSubmatch(what)
		switch {
		case found == nil || !IsDigest(name):
		case found[1] != "":
			keys, args = append(keys, s.Keys.Waits(name), s.Keys.Queue+"_unique_"+found[2]), append(args, "0")
		default:
			keys, args = append(keys, s.Keys.Waits(name), s.Keys.Queue+"_slots_"+found[4]), append(args, found[5])
		}
	}
	if args == nil {
		return 0, nil
	}
	return s.count(ctx, "wake", keys, args...)
}

// WakeAll is Wake for all tasks that wait for a key.
func (s *Store) WakeAll(ctx context.Context) (woken int, err error) {
	for cursor := "0"; ; {
		reply, err := s.Caller.Call(ctx, "HSCAN", s.Keys.Waited, cursor, "COUNT", strconv.Itoa(waitedPage))
		values, _ := reply.([]any)
		if err != nil || len(values) != 2 {
			return woken, err
		}
		some := map[string]string{}
		for name, what := range Fields(values[1]) {
			some[name] = what
			if len(some) == waitedPage { // a small hash comes in one page, whatever was asked for
				n, err := s.Wake(ctx, some)
				if woken += n; err != nil {
					return woken, err
				}
				clear(some)
			}
		}
		n, err := s.Wake(ctx, some)
		woken += n
		if cursor = string(Bulk(values[0])); err != nil || cursor == "0" {
			return woken, err
		}
	}
}

// TellLost stores that a tracked task has failed which a sweep of an older version has made this dead letter, for those who wait for it,
// and sets its unique key free. False if there was nobody to tell.
func (s *Store) TellLost(ctx context.Context, letter string, h Holds, result []byte, keep time.Duration) (bool, error) {
	n, err := s.count(ctx, "tell_lost", s.Keys.ending(h, s.Keys.Dead), letter, h.word(), string(result), Milliseconds(keep))
	return n == 1, err
}
