package delayedotel

import "go.opentelemetry.io/otel/attribute"

const (
	name   = "delayed" // of the system, and of what makes the spans
	schema = "https://opentelemetry.io/schemas/1.44.0"
	other  = "_OTHER" // an error of which the conventions know no type
)

// The names of the semantic conventions for messaging; what is ours stands under `messaging.delayed`, as they ask for.
const (
	systemKey      = attribute.Key("messaging.system")
	operationKey   = attribute.Key("messaging.operation.name")
	typeKey        = attribute.Key("messaging.operation.type")
	destinationKey = attribute.Key("messaging.destination.name")
	messageKey     = attribute.Key("messaging.message.id")
	countKey       = attribute.Key("messaging.batch.message_count")
	errorKey       = attribute.Key("error.type")
	taskKey        = attribute.Key("messaging.delayed.task")
	attemptKey     = attribute.Key("messaging.delayed.attempt")
	outcomeKey     = attribute.Key("messaging.delayed.outcome")
	workflowKey    = attribute.Key("messaging.delayed.workflow")

	operationDuration = "messaging.client.operation.duration"
	processDuration   = "messaging.process.duration"
	sentMessages      = "messaging.client.sent.messages"
	consumedMessages  = "messaging.client.consumed.messages"
)

// seconds are the buckets of histograms.
var seconds = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
