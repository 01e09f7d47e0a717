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
type hooks struct{ orders *delayed.Queue }

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
	return h.orders.Enqueue(ctx, delayed.NewPyTask("shop.jobs:delivered", []any{order}, nil))
}

func main() {
	client, err := delayed.Connect(os.Getenv("DELAYED_REDIS_URL"))
	check(err)
	orders, err := delayed.NewQueue("orders", client)
	check(err)
	webhooks, err := delayed.NewQueue("webhooks", client)
	check(err)
	worker, err := delayed.NewWorker([]*delayed.Queue{webhooks}, delayed.Concurrency(20))
	check(err)
	check(worker.RegisterAs("main.Deliver", (&hooks{orders}).Deliver))
	check(worker.Run(context.Background())) // until SIGTERM or Ctrl-C
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
