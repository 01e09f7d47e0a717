package delayed

import (
	"context"
	"fmt"
	"strings"
)

// typed is a key, and the type that it has while no other program uses it.
type typed struct{ key, kind string }

// aboutTypes tells whether Redis refused a command because of what stands in a key. From a script the word may stand anywhere.
func aboutTypes(err error) bool { return err != nil && strings.Contains(err.Error(), "WRONGTYPE") }

// foreign says what is wrong with those of a task's own keys that hold another program's data; nil if none does. If the queue's keys do,
// no task can be worked on, and it is nil, too.
func (q *Queue) foreign(ctx context.Context, own ...typed) *Unrunnable {
	var wrong []string
	for _, each := range append([]typed{{q.Keys.Processing, "hash"}}, own...) {
		reply, err := q.caller.call(ctx, "TYPE", each.key)
		found := string(bulk(reply))
		if err != nil || found == "none" || found == each.kind {
			continue
		}
		if each.key == q.Keys.Processing {
			return nil
		}
		wrong = append(wrong, fmt.Sprintf("the key %q of queue %q is a %s and not a %s", each.key, q.Name(), found, each.kind))
	}
	if wrong == nil {
		return nil
	}
	return unrunnable(ForeignKey, "%s: another program uses that key: rename it (RENAME) or remove it, or give the queue another name; "+
		"then the task can be retried", strings.Join(wrong, "; "))
}
