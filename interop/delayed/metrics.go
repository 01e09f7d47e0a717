package delayed

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/delayedq/delayed/interop/internal/tally"
)

// Metrics serves what this worker counts, in the text format of Prometheus: its attempts by outcome, for how long they ran and waited, and how
// many run now. What the workers of a queue count together, and what waits in it, is told by the command delayed exporter.
func (w *Worker) Metrics() http.Handler {
	return http.HandlerFunc(func(to http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodGet && request.Method != http.MethodHead {
			http.Error(to, "GET only", http.StatusMethodNotAllowed)
			return
		}
		to.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		var page bytes.Buffer
		tally.Write(&page, w.queueNames(), w.tallies)
		running := 0
		for _, s := range w.slots {
			if s.handler.Load() != nil {
				running++
			}
		}
		gauge(&page, "delayed_process_slots", "Tasks that may run at a time in this process.", len(w.slots))
		gauge(&page, "delayed_process_busy", "Tasks that run in this process.", running)
		if bytes, known := rss().(int); known {
			gauge(&page, "delayed_process_resident_bytes", "Memory of this process.", bytes)
		}
		to.Write(page.Bytes()) //nolint:errcheck // who asked has gone
	})
}

func gauge(page *bytes.Buffer, name, help string, value int) {
	fmt.Fprintf(page, "# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, help, name, name, value)
}
