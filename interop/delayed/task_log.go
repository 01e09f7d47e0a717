package delayed

import (
	"log/slog"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/lease"
)

// mostLines are those that successes have in a second; of more there is one for each function.
const mostLines = 50

// taskLog logs what a worker's tasks come to, beside failures, which are logged where they are handled. It does so at INFO, and never sets
// the pace: of many successes there is one line for each function and second.
type taskLog struct {
	log *slog.Logger

	mu     sync.Mutex
	second int64 // since 1970
	ended  int   // successes in it
	single int   // so many of them may have lines
	totals map[ofFunction]total
}

type ofFunction struct{ queue, path string }

type total struct {
	tasks int
	ran   time.Duration
}

// newTaskLog logs to log, and waits for nobody who writes that.
func newTaskLog(log *slog.Logger) *taskLog {
	if s, ours := log.Handler().(*steady); ours {
		log = slog.New(&steady{s.to, s.records, 0})
	}
	return &taskLog{log: log, single: mostLines, totals: map[ofFunction]total{}}
}

// succeeded is told of a task that ran from began on; job is nil if it has no headers.
func (t *taskLog) succeeded(queue, path string, job *Job, began time.Time) {
	now := time.Now()
	ran := now.Sub(began)
	if !t.counts(now, ofFunction{queue, path}, ran) {
		return
	}
	t.log.Info("a task succeeded", aboutRun(aboutTask(queue, path, "succeeded", "", job), job, began, now)...)
}

// cancelled is told of a task that has ended as cancelled.
func (t *taskLog) cancelled(job *Job, began time.Time) {
	t.log.Info("a task was cancelled", aboutRun(job.about("cancelled"), job, began, time.Now())...)
}

// aboutTask is what a line of the log says of a task, by the names that the records of Python's workers have: what is known of it (never its
// arguments), and how this attempt ended. job is nil if it has no headers, or if nobody has read them; then id may be known.
func aboutTask(queue, path, outcome, id string, job *Job) []any {
	about := []any{"queue", queue, "function", path, "outcome", outcome}
	if job != nil {
		id = job.ID
	}
	if id != "" {
		about = append(about, "task_id", id)
	}
	if job != nil {
		about = append(about, "attempt", job.Attempt)
	}
	if job != nil && len(job.Metadata) > 0 {
		about = append(about, "metadata", job.Metadata)
	}
	return about
}

// about is aboutTask for an execution.
func (j *Job) about(outcome string) []any { return aboutTask(j.queue.Name(), j.Path, outcome, "", j) }

// aboutRun adds for how long it ran, and how long it waited for its first attempt.
func aboutRun(about []any, job *Job, began, ended time.Time) []any {
	about = append(about, "seconds", ended.Sub(began).Seconds())
	if job != nil && job.Attempt == 1 && !job.Enqueued.IsZero() {
		about = append(about, "waited", max(began.Sub(job.Enqueued), 0).Seconds())
	}
	return about
}

// aboutLease is aboutTask for what a lease holds, with the time that it ran if err does not say that it did not.
func (w *Worker) aboutLease(l *lease.Lease, job *Job, outcome string, err error) []any {
	queue := l.Pool.Store.Keys.Queue
	about := aboutTask(queue, pathIn(l.Data), outcome, idIn(l.Data), job)
	if err != nil && !isRefusal(err) && !l.Since.IsZero() {
		about = append(about, "seconds", time.Since(l.Since).Seconds())
	}
	return about
}

// counts counts a success, and reports whether it has a line of its own.
func (t *taskLog) counts(now time.Time, of ofFunction, ran time.Duration) bool {
	t.mu.Lock()
	second := now.Unix()
	var over map[ofFunction]total
	if second != t.second {
		over = t.take()
		t.single = mostLines
		if t.ended > mostLines && second == t.second+1 {
			t.single = 0
		}
		t.second, t.ended = second, 0
	}
	t.ended++
	alone := t.ended <= t.single
	if !alone {
		sum := t.totals[of]
		t.totals[of] = total{sum.tasks + 1, sum.ran + ran}
	}
	t.mu.Unlock()
	t.say(over)
	return alone
}

// flush logs what has been counted.
func (t *taskLog) flush() {
	t.mu.Lock()
	over := t.take()
	t.mu.Unlock()
	t.say(over)
}

func (t *taskLog) take() map[ofFunction]total {
	if len(t.totals) == 0 {
		return nil
	}
	over := t.totals
	t.totals = map[ofFunction]total{}
	return over
}

func (t *taskLog) say(totals map[ofFunction]total) {
	for of, sum := range totals {
		t.log.Info("tasks succeeded", "queue", of.queue, "function", of.path, "outcome", "succeeded", "tasks", sum.tasks,
			"seconds", sum.ran.Seconds())
	}
}
