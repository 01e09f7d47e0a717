package delayed

import (
	"bytes"
	"errors"
	"log"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/system"
	"github.com/delayedq/delayed/interop/internal/tally"
)

func TestProcess1IsWarnedOfOrphans(t *testing.T) {
	for _, c := range []struct {
		pid  int
		says bool
	}{{1, true}, {2, false}} {
		var log bytes.Buffer
		system.WarnOfOrphans(slog.New(slog.NewTextHandler(&log, nil)), c.pid)
		if strings.Contains(log.String(), "docker run --init") != c.says {
			t.Errorf("process %d: %q", c.pid, log.String())
		}
	}
}

// What Redis holds is written to a log as one line, without control characters: the handlers of log/slog see to that, as long as it
// comes to them as a value, and not as part of the message.
func TestTextFromRedisIsOneLineOfTheLog(t *testing.T) {
	evil := "mod.F\x1b]0;owned\x07\x1b[2J\u009b\nFORGED\u202e"
	var text, plain bytes.Buffer
	before := log.Writer()
	log.SetOutput(&plain)
	defer log.SetOutput(before)
	for name, logger := range map[string]*slog.Logger{"text": slog.New(slog.NewTextHandler(&text, nil)), "default": slog.Default()} {
		worker := &Worker{log: logger, tallies: []*tally.Counter{{}}}
		data, err := NewGoTask(evil, 1).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		lease := &lease.Lease{Data: data, Pool: &lease.Pool{Store: newQueue(t).store}}
		worker.logBad(lease.Pool, aboutTask(evil, evil, evil, evil, nil), errors.New(evil))
		worker.logBad(lease.Pool, aboutTask(evil, evil, evil, evil, nil), &Unrunnable{Failed, evil})
		worker.wasSuperseded(lease)
		said := text.String() + plain.String()
		text.Reset()
		plain.Reset()
		if strings.Count(said, "\n") != 3 || strings.ContainsFunc(strings.ReplaceAll(said, "\n", ""), unprintable) {
			t.Errorf("%s: %q", name, said)
		}
	}
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) }
