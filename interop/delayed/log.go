package delayed

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	logPatience  = 100 * time.Millisecond // that whoever logs waits until it is written
	lastPatience = time.Second            // likewise, at the end of Run
	mostRecords  = 1000                   // that wait to be written; others are dropped, and counted
)

// steady stands before the handler of a log, which is the application's: it may panic or end its goroutine, and it may wait for a
// pipe that nobody reads. It works in a goroutine of its own, and the heart beats on. What it gets is safe to print: see shown.
type steady struct {
	to       slog.Handler
	records  *records
	patience time.Duration // that whoever logs waits until it is written
}

// steadily is log behind a steady handler.
func steadily(log *slog.Logger) *slog.Logger {
	if log == nil {
		log = slog.Default()
	}
	if _, already := log.Handler().(*steady); already {
		return log
	}
	return slog.New(&steady{log.Handler(), &records{}, logPatience})
}

// Enabled is asked of the handler where it cannot do harm.
func (s *steady) Enabled(context.Context, slog.Level) bool { return true }

// Handle passes a record on, and waits for a moment.
func (s *steady) Handle(ctx context.Context, r slog.Record) error {
	safe := slog.NewRecord(r.Time, r.Level, shown(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		safe.AddAttrs(shownAttr(a))
		return true
	})
	s.records.write(record{ctx, s.to, safe, make(chan struct{})}, s.patience)
	return nil
}

// WithAttrs is part of slog.Handler.
func (s *steady) WithAttrs(attrs []slog.Attr) slog.Handler {
	safe := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		safe[i] = shownAttr(a)
	}
	return &steady{s.to.WithAttrs(safe), s.records, s.patience}
}

// WithGroup is part of slog.Handler.
func (s *steady) WithGroup(name string) slog.Handler {
	return &steady{s.to.WithGroup(name), s.records, s.patience}
}

// record is what waits to be written; without a handler, somebody waits for all before it.
type record struct {
	ctx     context.Context
	to      slog.Handler
	slog    slog.Record
	written chan struct{}
}

func (r record) write() {
	defer close(r.written)
	defer func() { recover() }() //nolint:errcheck // whoever's handler panics cannot be told by a log
	if r.to != nil && r.to.Enabled(r.ctx, r.slog.Level) {
		r.to.Handle(r.ctx, r.slog) //nolint:errcheck // likewise
	}
}

type records struct {
	mu      sync.Mutex
	waiting []record
	working bool // a goroutine writes
	stuck   bool // it has been waited for in vain
	dropped int
}

func (all *records) write(r record, patience time.Duration) {
	all.mu.Lock()
	if len(all.waiting) >= mostRecords {
		all.dropped++
		all.mu.Unlock()
		return
	}
	all.waiting = append(all.waiting, r)
	if !all.working {
		all.working = true
		go all.work()
	}
	stuck := all.stuck
	all.mu.Unlock()
	if stuck || patience == 0 {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.written:
	case <-timer.C:
		all.mu.Lock()
		all.stuck = all.working
		all.mu.Unlock()
	}
}

// work writes what waits.
func (all *records) work() {
	done := false
	defer func() {
		if !done { // the handler has called runtime.Goexit
			go all.work()
		}
	}()
	for {
		all.mu.Lock()
		if len(all.waiting) == 0 {
			all.waiting, all.working, done = nil, false, true
			all.mu.Unlock()
			return
		}
		next, dropped := all.waiting[0], all.dropped
		all.waiting, all.dropped = all.waiting[1:], 0
		all.mu.Unlock()
		next.write()
		all.mu.Lock()
		all.stuck = false
		all.mu.Unlock()
		if dropped > 0 && next.to != nil {
			lost := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log were dropped, as its handler was stuck", 0)
			lost.AddAttrs(slog.Int("lines", dropped))
			record{next.ctx, next.to, lost, make(chan struct{})}.write()
		}
	}
}

// written waits, for a while, until all that was logged is written.
func written(log *slog.Logger) {
	if s, ok := log.Handler().(*steady); ok {
		s.records.write(record{written: make(chan struct{})}, lastPatience)
	}
}

// stacked is a text of several lines, for the log.
type stacked string

// loggedError is an error that says something safe.
type loggedError struct {
	error
	text string
}

func (e loggedError) Error() string { return e.text }
func (e loggedError) Unwrap() error { return e.error }

// shownAttr is an attribute whose texts are safe to print.
func shownAttr(a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(shown(a.Value.String()))
	case slog.KindAny:
		switch value := a.Value.Any().(type) {
		case stacked:
			a.Value = slog.StringValue(indented(string(value)))
		case Reason:
			a.Value = slog.StringValue(shown(string(value)))
		case error:
			a.Value = slog.AnyValue(loggedError{value, shown(said(value))})
		case map[string]string:
			safe := make(map[string]string, len(value))
			for name, text := range value {
				safe[shown(name)] = shown(text)
			}
			a.Value = slog.AnyValue(safe)
		case []string:
			safe := make([]string, len(value))
			for i, text := range value {
				safe[i] = shown(text)
			}
			a.Value = slog.AnyValue(safe)
		}
	}
	return a
}

// shown is a text from Redis or of a task as it may be printed: in one line, with escapes for whatever is not to be seen. Else it could
// forge lines of a log, or command a terminal.
func shown(text string) string {
	if strings.IndexFunc(text, isUnsafe) < 0 && utf8.ValidString(text) {
		return text
	}
	var safe strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			safe.WriteString(`\x` + strconv.FormatUint(0x100|uint64(text[i]), 16)[1:])
		case isUnsafe(r):
			quoted := strconv.QuoteRune(r)
			safe.WriteString(quoted[1 : len(quoted)-1])
		default:
			safe.WriteRune(r)
		}
	}
	return safe.String()
}

func isUnsafe(r rune) bool { return !strconv.IsPrint(r) }

// indented is shown for a text of several lines: all but the first are indented, so that none looks like a line of the log's own.
func indented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = shown(strings.ReplaceAll(line, "\t", "    "))
		if i > 0 && line != "" {
			line = "    " + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}
