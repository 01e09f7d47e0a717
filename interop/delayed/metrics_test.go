package delayed

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/delayedq/delayed/interop/internal/wire"
)

func TestAWorkerTellsPrometheusWhatItCounts(t *testing.T) {
	queue := newQueue(t)
	enqueue(t, queue, NewGoTask("main.F"), NewGoTask("main.F"), NewGoTask("main.Bad"))
	worker := newWorker(t, queue, map[string]any{"main.F": func() {}, "main.Bad": func() error { return errors.New("no") }}, Burst())
	must(t, worker.Run(ctx))
	answer := httptest.NewRecorder()
	worker.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text, name := answer.Body.String(), `queue="`+queue.Name()+`"`
	for _, line := range []string{
		`delayed_process_tasks_total{` + name + `,outcome="succeeded"} 2`, `delayed_process_tasks_total{` + name + `,outcome="failed"} 1`,
		`delayed_process_run_seconds_bucket{` + name + `,le="+Inf"} 3`, `delayed_process_run_seconds_count{` + name + `} 3`,
		`delayed_process_wait_seconds_count{` + name + `} 0`, "delayed_process_busy 0", "delayed_process_slots 1",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
	answer = httptest.NewRecorder()
	worker.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/metrics", nil))
	if answer.Code != http.StatusMethodNotAllowed {
		t.Error(answer.Code)
	}
}

func TestTheRegisterSaysHowMuchAWorkerCanAndDoes(t *testing.T) {
	queue := newQueue(t)
	begun, release := make(chan bool, 2), make(chan bool)
	worker := start(t, queue, map[string]any{"main.Hold": func() { begun <- true; <-release }}, Concurrency(3))
	enqueue(t, queue, NewGoTask("main.Hold"), NewGoTask("main.Hold"))
	<-begun
	<-begun
	data, err := (&heartbeat{Worker: worker}).about()
	close(release)
	must(t, err)
	found, err := wire.NewDecoder(data).Anything()
	must(t, err)
	about, _ := found.(map[string]any)
	if fmt.Sprint(about["slots"], about["in_flight"]) != "3 2" {
		t.Error(found)
	}
}
