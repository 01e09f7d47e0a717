"""The names of the semantic conventions for messaging; what is ours stands under `messaging.delayed`, as they ask for."""

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM, OPERATION, TYPE = "messaging.system", "messaging.operation.name", "messaging.operation.type"
DESTINATION, MESSAGE, COUNT = "messaging.destination.name", "messaging.message.id", "messaging.batch.message_count"
ERROR = "error.type"
TASK, ATTEMPT, OUTCOME = "messaging.delayed.task", "messaging.delayed.attempt", "messaging.delayed.outcome"
WORKFLOW = "messaging.delayed.workflow"

OPERATION_DURATION, PROCESS_DURATION = "messaging.client.operation.duration", "messaging.process.duration"
SENT, CONSUMED = "messaging.client.sent.messages", "messaging.client.consumed.messages"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # of histograms

NAME = "delayed"  # of the system, and of what makes the spans
OTHER = "_OTHER"  # an error of which they know no type
