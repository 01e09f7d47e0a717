// Package delayedotel makes spans and metrics of OpenTelemetry of enqueues and executions. It needs the API alone: what becomes of them
// is for the SDK to say that the program sets up.
//
//	tracing, err := delayedotel.New()
//	app, err := delayed.NewApp(url, delayed.AppOptions{
//		QueueOptions:  []delayed.QueueOption{tracing.Queue()},
//		WorkerOptions: []delayed.WorkerOption{tracing.Worker()},
//	})
package delayedotel

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/delayedq/delayed/interop/delayed"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Option changes a Tracing.
type Option func(*Tracing)

// TracerProvider is that of the SDK; otherwise the global one counts.
func TracerProvider(p trace.TracerProvider) Option { return func(t *Tracing) { t.tracers = p } }

// MeterProvider is that of the SDK; otherwise the global one counts.
func MeterProvider(p metric.MeterProvider) Option { return func(t *Tracing) { t.meters = p } }

// Parent makes an execution belong to the trace of its enqueue. Otherwise it begins a trace, with a link to the enqueue.
func Parent() Option { return func(t *Tracing) { t.parent = true } }

// RecordExceptions gives spans what an error says, which may quote arguments. Otherwise they have its type.
func RecordExceptions() Option { return func(t *Tracing) { t.records = true } }

// Tracing makes spans and metrics.
type Tracing struct {
	tracers         trace.TracerProvider
	meters          metric.MeterProvider
	parent, records bool

	tracer              trace.Tracer
	sending, processing metric.Float64Histogram
	sent, consumed      metric.Int64Counter
}

var w3c propagation.TraceContext

// New makes a Tracing. An error is the SDK's, of a metric.
func New(options ...Option) (*Tracing, error) {
	t := &Tracing{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
	for _, option := range options {
		option(t)
	}
	t.tracer = t.tracers.Tracer(name, trace.WithSchemaURL(schema))
	meter := t.meters.Meter(name, metric.WithSchemaURL(schema))
	histogram := func(name, description string) (metric.Float64Histogram, error) {
		return meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(seconds...))
	}
	counter := func(name, description string) (metric.Int64Counter, error) {
		return meter.Int64Counter(name, metric.WithUnit("{message}"), metric.WithDescription(description))
	}
	var wrong [4]error
	t.sending, wrong[0] = histogram(operationDuration, "Duration of an enqueue.")
	t.processing, wrong[1] = histogram(processDuration, "Duration of an execution.")
	t.sent, wrong[2] = counter(sentMessages, "Tasks that were enqueued.")
	t.consumed, wrong[3] = counter(consumedMessages, "Executions that began.")
	return t, errors.Join(wrong[:]...)
}

// Queue is for the queues whose enqueues are traced.
func (t *Tracing) Queue() delayed.QueueOption { return delayed.AroundEnqueue(t.send) }

// Worker is for the workers whose executions are traced. Put it before other middlewares.
func (t *Tracing) Worker() delayed.WorkerOption { return delayed.Around(t.process) }

func (t *Tracing) send(ctx context.Context, s *delayed.Sending, next func(context.Context) error) error {
	began := time.Now()
	operation, title := "send", "send "+s.Queue
	if s.Queue == "" {
		operation, title = "publish", "publish"
	}
	about := []attribute.KeyValue{systemKey.String(name), operationKey.String(operation), typeKey.String("send")}
	if s.Queue != "" {
		about = append(about, destinationKey.String(s.Queue))
	}
	ctx, span := t.tracer.Start(ctx, title, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(about...))
	defer span.End()
	if s.Path != "" {
		span.SetAttributes(taskKey.String(s.Path))
	}
	if t.parent || span.SpanContext().IsSampled() {
		carrier := propagation.MapCarrier{}
		w3c.Inject(ctx, carrier)
		s.Trace = delayed.Trace{Parent: carrier["traceparent"], State: carrier["tracestate"]}
	}
	err := next(ctx)
	if s.ID != "" {
		span.SetAttributes(messageKey.String(s.ID))
	}
	if s.Workflow != "" {
		span.SetAttributes(workflowKey.String(s.Workflow))
	}
	if s.Path == "" {
		span.SetAttributes(countKey.Int(s.Count))
	}
	if err != nil {
		about = append(about, errorKey.String(typeOf(err)))
		t.note(span, typeOf(err), err)
	}
	t.sending.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(about...))
	count := s.Count
	if err != nil && s.Path != "" {
		count = 1 // that was tried
	}
	t.sent.Add(ctx, int64(count), metric.WithAttributes(about...))
	return err
}

func (t *Tracing) process(ctx context.Context, next func(context.Context) error) (err error) {
	job := delayed.CurrentTask(ctx)
	if job == nil { // a plain task
		return next(ctx)
	}
	began := time.Now()
	about := []attribute.KeyValue{
		systemKey.String(name), operationKey.String("process"), typeKey.String("process"), destinationKey.String(job.Queue()),
	}
	inner, span := t.begin(ctx, job, about)
	t.consumed.Add(inner, 1, metric.WithAttributes(about...))
	outcome, kind := "failed", "panic" // if next does not return
	defer func() {
		about = append(about, outcomeKey.String(outcome), taskKey.String(job.Path))
		span.SetAttributes(outcomeKey.String(outcome))
		if kind != "" {
			about = append(about, errorKey.String(kind))
			t.note(span, kind, err)
		}
		span.End()
		t.processing.Record(inner, time.Since(began).Seconds(), metric.WithAttributes(about...))
	}()
	err = next(inner)
	outcome, kind = job.Outcome(inner, err)
	return err
}

// begin begins the span of an execution, with a link to its enqueue, or in the trace of that.
func (t *Tracing) begin(ctx context.Context, job *delayed.Job, about []attribute.KeyValue) (context.Context, trace.Span) {
	found := job.Trace()
	carrier := propagation.MapCarrier{"traceparent": found.Parent, "tracestate": found.State}
	creation := trace.SpanContextFromContext(w3c.Extract(context.Background(), carrier))
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(about...),
		trace.WithAttributes(taskKey.String(job.Path), attemptKey.Int(job.Attempt)),
	}
	if job.ID != "" {
		options = append(options, trace.WithAttributes(messageKey.String(job.ID)))
	}
	if flow := job.Flow(); flow != "" {
		options = append(options, trace.WithAttributes(workflowKey.String(flow)))
	}
	switch {
	case !creation.IsValid():
		options = append(options, trace.WithNewRoot())
	case t.parent:
		ctx = trace.ContextWithRemoteSpanContext(ctx, creation)
	default:
		options = append(options, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: creation}))
	}
	return t.tracer.Start(ctx, "process "+job.Queue(), options...)
}

func (t *Tracing) note(span trace.Span, kind string, err error) {
	span.SetAttributes(errorKey.String(kind))
	span.SetStatus(codes.Error, "")
	if t.records && err != nil {
		span.RecordError(err)
	}
}

// typeOf is the type of an error, as semantic conventions name it.
func typeOf(err error) string {
	kind := reflect.TypeOf(err)
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if kind.Name() == "" {
		return other
	}
	return kind.PkgPath() + "." + kind.Name()
}
