package rdb

import (
	"fmt"
	"strings"

	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	FlowSize   = 10                                                                 // characters of an id that say of which workflow a node is, and the rest which of its nodes
	flowDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" // of base64url, in its order
)

// Member is a node of a workflow, as its task names it; zero for a task that is none.
type Member struct {
	Home string // the queue that has the workflow's keys
	Flow string // the workflow
	Set  int64  // to which of its sets of nodes it belongs
	Node int64  // its number among the nodes
}

// MemberOf is of which workflow a task with these headers is a node.
func MemberOf(headers *wire.Headers) Member {
	home, set, ok := headers.Member()
	id := headers.TrackedID()
	if !ok || id == "" {
		return Member{}
	}
	return Member{home, id[:FlowSize], set, NodeIndex(id)}
}

// NodeID is the id of the node with this index in a workflow; index -1 is the workflow itself.
func NodeID(flow string, index int64) string {
	var digits [6]byte
	number := index + 1
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = flowDigits[number&63]
		number >>= 6
	}
	return flow + string(digits[:])
}

// NodeIndex is the opposite of NodeID.
func NodeIndex(id string) int64 {
	number := int64(0)
	for i := FlowSize; i < len(id); i++ {
		number = number<<6 | int64(strings.IndexByte(flowDigits, id[i]))
	}
	return number - 1
}

// FlowOf is the workflow of a node, or of the workflow's own id; ok is false for what is no id.
func FlowOf(id string) (flow string, ok bool) {
	if !wire.IsID(id) {
		return "", false
	}
	return id[:FlowSize], true
}

// Flow is a hash: a workflow: what it is, its nodes, what has become of them.
func (k Keys) Flow(flow string) string { return k.Queue + "_flow_" + flow }

// Marks is a string: one character for each node of a workflow: what has become of it.
func (k Keys) Marks(flow string) string { return k.Queue + "_flow_marks_" + flow }

// Joins is a list: what has happened in a workflow, until it has been carried into its joins.
func (k Keys) Joins(flow string) string { return k.Queue + "_flow_joins_" + flow }

// Bodies is a list: the tasks of one set of nodes of a workflow, if these are many.
func (k Keys) Bodies(flow string, set int64) string {
	return fmt.Sprintf("%s_flow_bodies_%d_%s", k.Queue, set, flow)
}

// Reaches reports whether scripts for this queue may touch the keys of another: on a cluster those with the same {tag}.
func (s *Store) Reaches(queue string) bool {
	return !s.clustered() || tagOf(s.Keys.Queue) == tagOf(queue)
}

// tagOf is what places a key on a cluster.
func tagOf(key string) string {
	if _, rest, found := strings.Cut(key, "{"); found {
		if end := strings.IndexByte(rest, '}'); end > 0 {
			return rest[:end]
		}
	}
	return key
}

// told are the keys by which the workflow of a node hears of it, and what it is told; nothing for a task that is none. What its kind
// is, and the rest, flow_join knows. If the workflow is on another node of a cluster, it is told by whoever carries on what stands in the
// outbox here.
func (s *Store) told(m Member, kind, rest string) (keys []string, entry string) {
	if m.Home == "" {
		return nil, ""
	}
	home, err := NewKeys(m.Home)
	if err != nil {
		return nil, ""
	}
	entry = fmt.Sprintf("%s%d %d", kind, m.Set, m.Node)
	if rest != "" {
		entry += " " + rest
	}
	if s.Reaches(m.Home) {
		return []string{home.Joins(m.Flow), home.FlowOutbox}, entry
	}
	own := s.Keys.FlowOutbox
	packed := wire.AppendString(wire.AppendString(wire.AppendArray([]byte{'@'}, 3), m.Home), m.Flow)
	return []string{own, own}, string(wire.AppendBytes(packed, []byte(entry)))
}

var marks = map[string]string{"succeeded": "s", "failed": "f", "expired": "x", "cancelled": "c"} // of nodes that end
