// Command shop runs the webhooks that shop/jobs.py enqueues, and enqueues for Python what follows.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/delayedq/delayed/interop/delayed"
)

// hooks has what its tasks need.
type hooks struct{ app *delayed.App }

// Deliver is what `app.declare("main.Deliver", …)` calls. An error is retried, with growing pauses, as jobs.py asks for.
func (h *hooks) Deliver(ctx context.Context, url, event string, order int) error {
	body, err := json.Marshal(map[string]any{"event": event, "order": order})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // nothing is read from it
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s says %s", url, answer.Status)
	}
	_, err = h.app.Submit(ctx, "shop.jobs:delivered", []any{order})
	return err
}

func main() {
	app, err := delayed.NewApp(os.Getenv("DELAYED_REDIS_URL"), delayed.AppOptions{})
	check(err)
	h := &hooks{app}
	check(app.HandleAs("main.Deliver", h.Deliver, delayed.OnQueue("webhooks")))
	check(app.Declare("shop.jobs:delivered", delayed.OnQueue("orders")))
	worker, err := app.Worker(delayed.Concurrency(20))
	check(err)
	check(worker.Run(context.Background())) // until SIGTERM or Ctrl-C
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
