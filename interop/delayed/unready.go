package delayed

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	defaultUnready  = 10 * time.Minute
	warnAgain       = time.Minute           // between two warnings about tasks of one path
	mostPaths       = 1000                  // that are told apart
	manyUnready     = 5                     // tasks in a row that cannot run here, after which the worker slows down
	firstSlowdown   = 50 * time.Millisecond // how long it rests then at first …
	longestSlowdown = time.Second           // … and at last
)

// UnreadyFor says for how long a task waits, and is tried again, that this worker does not know how to run: nothing is registered under
// its path, or it has a header that has to be understood and is not. Another worker may know, or this one after its next deploy. Then it
// becomes a dead letter. 10 minutes by default; with 0 it becomes one at once.
func UnreadyFor(d time.Duration) WorkerOption { return func(w *Worker) { w.unreadyFor = d } }

// unreadyError says that a task cannot run here now.
type unreadyError struct{ cause *Unrunnable }

func (u *unreadyError) Error() string { return u.cause.Error() }

// notReady is what becomes of a task that cannot run here; job is nil for one without headers.
func (w *Worker) notReady(ctx context.Context, job *Job, cause *Unrunnable) error {
	switch {
	case w.unreadyFor == 0:
		return cause
	case job != nil && job.Tracked && job.isCancelled(ctx): // nobody has to run it any more
		return errCancelled
	}
	return &unreadyError{cause}
}

// putOff lets a task wait that cannot run here now; too late, it becomes a dead letter.
func (w *Worker) putOff(l *lease.Lease, job *Job, cause *Unrunnable) {
	path, s := pathIn(l.Data), l.Pool.Store
	about := w.aboutLease(l, job, string(cause.Reason), cause)
	var held rdb.Holds
	to := s.Keys.Tail()
	if job != nil {
		held = job.holds()
		if job.grouped {
			to = s.Keys.GroupTail(job.Group)
		}
	}
	w.setAside.Add(1)
	w.unready.note(w, path, cause)
	command := s.Deferring(l.Name, held, to, w.unreadyFor, cause.Detail)
	w.acks.Post(conn.Ending{Packed: conn.AppendCommand(nil, command...), Answered: func(reply any, repeated bool) {
		switch said, _, age := rdb.DeferredOf(reply); said {
		case rdb.DeferOver:
			w.setAside.Add(-1)
			w.recorder(l.Pool).note(historyEvent{outcome: "buried", path: path, ran: -1, said: cause.Error()}, job, time.Time{})
			w.waitedInVain(l, job, about, cause, age)
		case rdb.DeferDone:
			w.recorder(l.Pool).note(historyEvent{outcome: "deferred", path: path, ran: -1, said: cause.Error()}, job, time.Time{})
			l.Release()
		default:
			l.Answered(int64(0), repeated)
		}
	}})
}

// waitedInVain makes a dead letter of a task that nobody could run for too long. It does not wait for Redis.
func (w *Worker) waitedInVain(l *lease.Lease, job *Job, about []any, cause *Unrunnable, age time.Duration) {
	late := unrunnable(cause.Reason, "%s; it has waited for %s for a worker that can run it", cause.Detail, age.Round(time.Second))
	command := burial(l, late.Reason, detailOf(late), w.place)
	if job != nil {
		command = w.burialOf(l, job, late.Reason, late)
	}
	w.countBad(l, job, late)
	w.acks.PostLater(conn.Ending{Packed: conn.AppendCommand(nil, command...), Answered: l.Ended})
	w.logBad(l.Pool, about, late)
}

// unreadyTasks is what a worker knows of tasks that it does not know how to run.
type unreadyTasks struct {
	inRow atomic.Int64 // they came one after the other

	// The fetcher's alone.
	slowedAt  int64 // of these, how many there were when it rested last
	slowdowns int   // since one could run

	mu    sync.Mutex
	paths map[string]*warned
}

// warned is what has been said about tasks of one path.
type warned struct {
	at    time.Time
	since int // how many came since then
}

// note is called with each such task. It says so, once for each path and cause, and then once a minute.
func (s *unreadyTasks) note(w *Worker, path string, cause *Unrunnable) {
	s.inRow.Add(1)
	s.mu.Lock()
	known := s.about(fmt.Sprintf("%s %.200s %.200s", cause.Reason, path, cause.Detail))
	known.since++
	count := known.since
	tell := time.Since(known.at) >= warnAgain
	if tell {
		known.at, known.since = time.Now(), 0
	}
	s.mu.Unlock()
	if tell {
		w.log.Warn("cannot run a task (yet): it waits, and is tried again, by other workers too", "function", path, "reason", cause.Reason,
			"task_detail", cause.Detail, "tasks", count, "buried_after", w.unreadyFor)
	}
}

// about is what has been said about tasks like this. If there are too many kinds of them, they share what is said.
func (s *unreadyTasks) about(key string) *warned {
	if s.paths == nil {
		s.paths = map[string]*warned{}
	}
	if s.paths[key] == nil && len(s.paths) >= mostPaths {
		maps.DeleteFunc(s.paths, func(_ string, known *warned) bool { return time.Since(known.at) >= warnAgain })
		if len(s.paths) >= mostPaths {
			key = ""
		}
	}
	if s.paths[key] == nil {
		s.paths[key] = &warned{}
	}
	return s.paths[key]
}

// reset is called when a task can run.
func (s *unreadyTasks) reset() {
	if s.inRow.Load() != 0 {
		s.inRow.Store(0)
	}
}

// slowDownIfUnready lets the fetcher wait for a moment if the worker meets many tasks in a row that it cannot run: others may know how.
func (f *fetcher) slowDownIfUnready() {
	s := &f.unready
	count := s.inRow.Load()
	switch {
	case count < manyUnready:
		s.slowedAt, s.slowdowns = 0, 0
		return
	case count <= s.slowedAt:
		return
	case s.slowdowns == 0:
		f.log.Warn("slowing down: these tasks cannot run here (yet)", "in_a_row", count)
	}
	pause := min(firstSlowdown<<min(s.slowdowns, 10), longestSlowdown)
	s.slowedAt, s.slowdowns = count, s.slowdowns+1
	select {
	case <-time.After(pause):
	case <-f.stopping:
	}
}
