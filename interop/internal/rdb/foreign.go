package rdb

import (
	"context"
	"fmt"
	"strings"
)

// TypedKey is a key, and the type that it has while no other program uses it.
type TypedKey struct{ Key, Kind string }

// IsTypeError reports whether Redis refused a command because of what stands in a key. From a script the word may stand anywhere.
func IsTypeError(err error) bool { return err != nil && strings.Contains(err.Error(), "WRONGTYPE") }

// ForeignKeys says what is wrong with those of a task's own keys that hold another program's data; nothing if none does. If the
// queue's keys do, no task can be worked on, and it is nothing, too.
func (s *Store) ForeignKeys(ctx context.Context, own ...TypedKey) string {
	var wrong []string
	for _, each := range append([]TypedKey{{s.Keys.Processing, "hash"}}, own...) {
		reply, err := s.Caller.Call(ctx, "TYPE", each.Key)
		found := string(Bulk(reply))
		if err != nil || found == "none" || found == each.Kind {
			continue
		}
		if each.Key == s.Keys.Processing {
			return ""
		}
		wrong = append(wrong, fmt.Sprintf("the key %q of queue %q is a %s and not a %s", each.Key, s.Keys.Queue, found, each.Kind))
	}
	return strings.Join(wrong, "; ")
}
