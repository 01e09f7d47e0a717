// Command traces is a Go worker that is traced, and hands its tasks on to Python. Its spans go by OTLP to where the environment says.
package main

import (
	"context"
	"errors"
	"flag"
	"log"

	"github.com/delayedq/delayed/interop/delayed"
	"github.com/delayedq/delayed/interop/delayedotel"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const work = "traced:work"

func main() {
	queue := flag.String("queue", "", "of this worker")
	python := flag.String("python", "", "where its tasks are handed on to")
	parent := flag.Bool("parent", false, "executions belong to the traces of their enqueues")
	flag.Parse()
	if err := run(*queue, *python, *parent); err != nil {
		log.Fatal(err)
	}
}

func run(queue, python string, parent bool) error {
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return err
	}
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	otel.SetTracerProvider(provider)
	options := []delayedotel.Option{delayedotel.TracerProvider(provider)}
	if parent {
		options = append(options, delayedotel.Parent())
	}
	tracing, err := delayedotel.New(options...)
	if err != nil {
		return err
	}
	app, err := delayed.NewApp("", delayed.AppOptions{
		Queue: queue, QueueOptions: []delayed.QueueOption{tracing.Queue()}, WorkerOptions: []delayed.WorkerOption{tracing.Worker()},
	})
	if err != nil {
		return err
	}
	defer app.Close()
	if err := register(app, python); err != nil {
		return err
	}
	worker, err := app.Worker()
	if err != nil {
		return err
	}
	return errors.Join(worker.Run(ctx), provider.Shutdown(ctx))
}

func register(app *delayed.App, python string) error {
	relay := func(ctx context.Context, number int) error {
		_, err := app.Submit(ctx, work, []any{number})
		return err
	}
	spread := func(ctx context.Context, many int) error {
		var calls []delayed.Call
		for number := range many {
			calls = append(calls, delayed.CallOf(work, number))
		}
		_, err := app.SubmitMany(ctx, calls)
		return err
	}
	second := func(ctx context.Context) error {
		if delayed.CurrentTask(ctx).Attempt == 1 {
			return errors.New("the secret is 42")
		}
		return nil
	}
	flow := func(ctx context.Context) error {
		flow := app.Flow("two")
		flow.Add(delayed.CallOf(work, 1))
		_, err := flow.Submit(ctx)
		return err
	}
	panics := func() { panic("the secret is 42") }
	err := app.Declare(work, delayed.OnQueue(python))
	for path, function := range map[string]any{
		"main.Relay": relay, "main.Spread": spread, "main.Second": second, "main.Flow": flow, "main.Panics": panics,
	} {
		err = errors.Join(err, app.HandleAs(path, function))
	}
	return err
}
