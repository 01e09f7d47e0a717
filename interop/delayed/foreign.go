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

// foreign says what is wrong with those of a task's own keys that hold another program's data; nothing if none does. If the queue's keys
// do, no task can be worked on, and it is nothing, too.
func (s *store) foreign(ctx context.Context, own ...typed) string {
	var wrong []string
	for _, each := range append([]typed{{s.Keys.Processing, "hash"}}, own...) {
		reply, err := s.caller.call(ctx, "TYPE", each.key)
		found := string(bulk(reply))
		if err != nil || found == "none" || found == each.kind {
			continue
		}
		if each.key == s.Keys.Processing {
			return ""
		}
		wrong = append(wrong, fmt.Sprintf("the key %q of queue %q is a %s and not a %s", each.key, s.Keys.Queue, found, each.kind))
	}
	return strings.Join(wrong, "; ")
}
