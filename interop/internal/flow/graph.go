package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/errs"
)

const (
	mostTargets = 100 // sets behind one gate; where there are more, several gates stand side by side
	deepest     = 16  // groups and chains within each other
)

// modes of gates, as flow_join.lua knows them, by the policies of edges.
var modes = map[string]string{"stop": "a", "stop_now": "x", "continue": "e", "any": "q", "failure": "n"}

const (
	quorum  = "quorum:"        // what a policy begins with that needs so many successes,
	upTo    = "quorum or all:" // and that of the edges in a workflow with such a policy: where there are fewer nodes, all will do
	quorums = "qpz"            // modes that need so many successes; with p and z all, where they are fewer; z is that of the whole
)

// Quorum is the policy that needs so many successes.
func Quorum(need int) string { return quorum + strconv.Itoa(need) }

// Task is what a node does.
type Task interface {
	// FuncPath is the path of its function.
	FuncPath() string
	// Node gives the bytes that go to its queue: those of the node with this id, in this set of a workflow with that home.
	Node(home string, set int64, id string, now time.Time) ([]byte, error)
	// Alone says that it asks for more than a place in its queue.
	Alone() bool
}

// Block are nodes with the same predecessors and successors: one, or the members of a group.
type Block struct {
	Number int64 // its own, in the workflow
	First  int64 // index of its first node, once the graph is numbered
	Size   int64
	Many   bool // it is a group: whoever comes after it finds a list

	tasks    []Task // what its nodes do, in their order; for a map the one call that is made with each element
	queue    string // where they go, by its name
	kind     string // `t` for tasks, `m` for a map, `w` for a wait, `c` for callbacks
	label    string
	gates    int // that it waits for
	outs     []*gate
	edges    []edge   // from those before it
	previous []*Block // whose results it finds, …
	listed   bool     // … and whether as a list
	wait     string   // as it is stored
}

// edge is what a set waits for, and by which policy.
type edge struct {
	from   *Block
	policy string
}

// empty says that it is a group without members.
func (b *Block) empty() bool { return b.Size == 0 }

// gate lets sets of nodes go on, or skips them, as others have ended.
type gate struct {
	number  int64
	mode    string
	need    int // how many successes (or failures) it needs; 0 for all
	sources []*Block
	targets []*Block
}

// Ref are nodes of a workflow that is being put together.
type Ref struct {
	Blocks []*Block
	Policy string // of the edges that come from it, if they have one of their own
}

func (r Ref) many() bool { return len(r.Blocks) != 1 || r.Blocks[0].Many }

// Graph are sets of nodes, and the gates between them.
type Graph struct {
	Policy string // what edges do that have no policy of their own

	blocks []*Block
	gates  []*gate
	base   Base
	shared map[string]*gate
}

// Base are the numbers from which on sets, gates and nodes are counted.
type Base struct{ Sets, Gates, Nodes int64 }

// NewGraph is one without nodes.
func NewGraph(policy string, base Base) (*Graph, error) {
	if !isPolicy(policy) {
		return nil, fmt.Errorf("%w: the policy of a workflow is stop, stop_now, continue, any or a quorum, not %q", errs.ErrInvalidTask, policy)
	}
	return &Graph{Policy: policy, base: base, shared: map[string]*gate{}}, nil
}

// isPolicy says whether a workflow can have it.
func isPolicy(policy string) bool {
	_, _, err := modeOf(policy)
	return err == nil && policy != "failure" && !strings.HasPrefix(policy, upTo)
}

// Add makes a set of nodes that run these tasks, in a queue.
func (g *Graph) Add(tasks []Task, queue, label string) *Block {
	return g.add(&Block{tasks: tasks, queue: queue, kind: "t", label: label, Size: int64(len(tasks))})
}

// AddMap makes a set whose nodes are known later.
func (g *Graph) AddMap(task Task, queue, label string) *Block {
	return g.add(&Block{tasks: []Task{task}, queue: queue, kind: "m", label: label, Size: 1, Many: true})
}

// AddWait makes a node that waits for a signal, if it has a name, and for so many milliseconds at most, if these are not 0.
func (g *Graph) AddWait(signal string, milliseconds int64, home, label string) *Block {
	return g.add(&Block{queue: home, kind: "w", label: label, Size: 1, wait: fmt.Sprintf("%d %s", milliseconds, signal)})
}

// AddCallback makes a set of tasks that are enqueued when something has become of the whole.
func (g *Graph) AddCallback(tasks []Task, queue string) *Block {
	return g.add(&Block{tasks: tasks, queue: queue, kind: "c", Size: int64(len(tasks))})
}

func (g *Graph) add(b *Block) *Block {
	b.Number = g.base.Sets + int64(len(g.blocks))
	if b.label == "" && len(b.tasks) > 0 {
		b.label = b.tasks[0].FuncPath()
	}
	g.blocks = append(g.blocks, b)
	return b
}

// Connect lets a set wait for those before it, under a policy if it is not empty. A group without members is none of them: in its place
// stands what is before it.
func (g *Graph) Connect(b *Block, refs []Ref, policy string) error {
	listed := len(refs) > 1
	var previous []*Block
	for _, ref := range refs {
		listed = listed || ref.many()
		previous = append(previous, ref.Blocks...)
		own := cmp.Or(ref.Policy, policy, g.standard())
		for _, each := range ref.Blocks {
			if each.empty() {
				b.edges = append(b.edges, each.edges...)
			} else {
				b.edges = append(b.edges, edge{each, own})
			}
		}
	}
	if len(previous) > 0 {
		b.previous, b.listed = previous, listed
	}
	if _, _, err := modeOf(cmp.Or(policy, g.standard())); err != nil || b.empty() {
		return err
	}
	return g.hang(b)
}

// hang puts a set behind the gates that its edges need: one for each policy.
func (g *Graph) hang(b *Block) error {
	var policies []string
	byPolicy := map[string][]*Block{}
	for _, each := range b.edges {
		if byPolicy[each.policy] == nil {
			policies = append(policies, each.policy)
		}
		byPolicy[each.policy] = append(byPolicy[each.policy], each.from)
	}
	for _, each := range policies {
		found, err := g.gate(each, distinct(byPolicy[each]))
		if err != nil {
			return err
		}
		found.targets = append(found.targets, b)
		b.gates++
	}
	return nil
}

// standard is what edges do of which nothing is said. (That all is stopped is for the whole to see to.)
func (g *Graph) standard() string {
	if g.Policy == "stop_now" {
		return "stop"
	}
	if digits, some := strings.CutPrefix(g.Policy, quorum); some {
		return upTo + digits
	}
	if g.Policy == "any" {
		return upTo + "1"
	}
	return g.Policy
}

// modeOf is the mode of a gate, and how many nodes it needs; 0 for all.
func modeOf(policy string) (mode string, need int, err error) {
	mode = modes[policy]
	digits, some := strings.CutPrefix(policy, quorum)
	if some {
		mode = "q"
	} else if digits, some = strings.CutPrefix(policy, upTo); some {
		mode = "p"
	}
	if some {
		if n, err := strconv.Atoi(digits); err == nil && n > 0 {
			need = n
		}
		if need == 0 {
			return "", 0, fmt.Errorf("%w: a quorum is a number of nodes above 0, not %s", errs.ErrInvalidTask, digits)
		}
	}
	if mode == "" {
		return "", 0, fmt.Errorf("%w: the policy of an edge is stop, stop_now, continue, any, failure or a quorum, not %q", errs.ErrInvalidTask, policy)
	}
	if policy == "any" || policy == "failure" {
		need = 1
	}
	return mode, need, nil
}

func (g *Graph) gate(policy string, sources []*Block) (*gate, error) {
	mode, need, err := modeOf(policy)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprint(mode, need, numbersOf(sources))
	found := g.shared[key]
	if found == nil || len(found.targets) >= mostTargets {
		found = &gate{number: g.base.Gates + int64(len(g.gates)), mode: mode, need: need, sources: sources}
		for _, each := range sources {
			each.outs = append(each.outs, found)
		}
		g.shared[key] = found
		g.gates = append(g.gates, found)
	}
	return found, nil
}

// Number gives each node its index.
func (g *Graph) Number() {
	at := g.base.Nodes
	for _, b := range g.blocks {
		b.First = at
		at += b.Size
	}
}

// Sizes are how many sets, gates and nodes there are; callbacks are among the nodes.
func (g *Graph) Sizes() (sets, gates, nodes int64) {
	for _, b := range g.blocks {
		nodes += b.Size
	}
	return int64(len(g.blocks)), int64(len(g.gates)), nodes
}

// Close lets, where the policy is a quorum, those decide whether the whole has failed that nothing comes after. For one that has failed
// stands what handles that, if there is such a set.
func (g *Graph) Close(ends []*Block) error {
	if !g.counts() || len(ends) == 0 {
		return nil
	}
	_, need, err := modeOf(g.standard())
	if err != nil {
		return err
	}
	sources, known := slices.Clone(ends), true
	for _, b := range ends {
		known = known && b.kind != "m"
		for _, out := range b.outs {
			if out.mode == "n" {
				sources = append(sources, out.targets[0])
			}
		}
	}
	if len(sources) > len(ends) && known {
		need = min(need, int(sizeOf(ends)))
	}
	last := &gate{number: g.base.Gates + int64(len(g.gates)), mode: "z", need: need, sources: distinct(sources)}
	g.gates = append(g.gates, last)
	for _, b := range last.sources {
		b.outs = append(b.outs, last)
	}
	return nil
}

// counts says whether the policy is a quorum.
func (g *Graph) counts() bool { return strings.HasPrefix(g.standard(), upTo) }

// Ends are the sets that nothing comes after, but for what handles a failure; and no such handler.
func (g *Graph) Ends() (ends []*Block) {
	handlers := map[*Block]bool{}
	for _, b := range g.blocks {
		handlers[b] = len(b.edges) > 0
		for _, each := range b.edges {
			handlers[b] = handlers[b] && (each.policy == "failure" || handlers[each.from])
		}
		last := b.kind != "c" && !b.empty() && !handlers[b]
		for _, out := range b.outs {
			last = last && out.mode == "n"
		}
		if last {
			ends = append(ends, b)
		}
	}
	return ends
}

// TooDeep refuses what is nested too deeply.
func TooDeep(depth int) error {
	if depth >= deepest {
		return fmt.Errorf("%w: groups and chains may be nested to a depth of %d", errs.ErrInvalidTask, deepest)
	}
	return nil
}

func distinct(blocks []*Block) []*Block {
	seen := map[*Block]bool{}
	var found []*Block
	for _, b := range blocks {
		if !seen[b] {
			seen[b] = true
			found = append(found, b)
		}
	}
	return found
}

func numbersOf(blocks []*Block) string {
	texts := make([]string, len(blocks))
	for i, b := range blocks {
		texts[i] = strconv.FormatInt(b.Number, 10)
	}
	return strings.Join(texts, ",")
}
