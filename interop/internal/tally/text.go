package tally

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// names are those of the outcomes, in their order.
var names = [...]string{"", "succeeded", "retried", "failed", "buried", "cancelled", "expired", "superseded"}

var escapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// Label is a label of a metric, with its value, as Prometheus reads it.
func Label(name, value string) string {
	return name + `="` + escapes.Replace(strings.ToValidUTF8(value, "?")) + `"`
}

// Write writes what this process has counted of its queues, in the text format of Prometheus. The names are others than those of what all
// processes have counted together, which `delayed exporter` tells, so that nobody adds them up.
func Write(to io.Writer, queues []string, counters []*Counter) {
	totals := make([]record, len(counters))
	for i, counter := range counters {
		totals[i] = counter.total()
	}
	fmt.Fprintln(to, "# HELP delayed_process_tasks_total Attempts of this process, by how they ended.")
	fmt.Fprintln(to, "# TYPE delayed_process_tasks_total counter")
	for i, queue := range queues {
		for outcome := Succeeded; outcome <= Superseded; outcome++ {
			fmt.Fprintf(to, "delayed_process_tasks_total{%s,outcome=%q} %d\n", Label("queue", queue), names[outcome], totals[i].counts[outcome])
		}
	}
	writeHistogram(to, "delayed_process_run_seconds", "For how long attempts ran in this process.", run, queues, totals)
	writeHistogram(to, "delayed_process_wait_seconds", "For how long tasks that have a date waited for their first attempt.", wait, queues, totals)
}

func writeHistogram(to io.Writer, name, help string, first int, queues []string, totals []record) {
	fmt.Fprintf(to, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name)
	for i, queue := range queues {
		label, below := Label("queue", queue), int64(0)
		for place, bound := range bounds {
			below += totals[i].counts[first+1+place]
			fmt.Fprintf(to, "%s_bucket{%s,le=\"%s\"} %d\n", name, label, strconv.FormatFloat(bound.Seconds(), 'g', -1, 64), below)
		}
		below += totals[i].counts[first+1+len(bounds)]
		seconds := totals[i].ran.Seconds()
		if first == wait {
			seconds = totals[i].waits.Seconds()
		}
		fmt.Fprintf(to, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %g\n%s_count{%s} %d\n", name, label, below, name, label, seconds, name, label, below)
	}
}

// total is what has been counted since the process began.
func (c *Counter) total() record {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := c.before
	total.join(&c.sum)
	return total
}
