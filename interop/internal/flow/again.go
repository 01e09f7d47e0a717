package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

const bad = "fxck" // marks of nodes that have ended without success

var (
	// ErrNothing says that nothing in a workflow has failed that could be retried.
	ErrNothing = errors.New("nothing in it has failed; with RetryAll it all runs again")
	// ErrElse says that somebody else has let a workflow go on.
	ErrElse = errors.New("somebody else has just let it go on")
)

// tallies are the fields that count nodes with a mark.
var tallies = []struct{ mark, field string }{{"f", "failed"}, {"x", "expired"}, {"c", "cancelled"}, {"k", "skipped"}}

// storedGate is a gate, as it is stored.
type storedGate struct {
	mode    string
	need    int64
	targets []int64
	before  string  // how it was decided: s, d, k or nothing
	maps    []int64 // sets before it whose nodes may not be made yet
	sources []Set
}

// plan is what a workflow is from now on that has ended.
type plan struct {
	order   []int64 // its sets
	sets    map[int64]Set
	outs    map[int64][]int64 // the gates behind them
	numbers []int64           // its gates
	gates   map[int64]*storedGate
	marks   []byte
	entries []string
	fields  []string          // names and values
	decided map[int64]string  // gates
	gone    []string          // fields
	again   map[int64][]int64 // set → indices of its nodes that run again, or for the first time
	undone  map[int64][]int64 // set that is not released yet → indices of its nodes that had ended
	left    int64
}

// Again lets a workflow that has ended go on; ended is when it has, as the caller saw it. downstream: also what came after what has failed,
// and has run nevertheless; all: everything. It returns how many nodes have not ended now.
func (c *Carrier) Again(ctx context.Context, flow, ended string, downstream, all bool) (int64, error) {
	p, err := c.planOf(ctx, flow)
	if err != nil {
		return 0, err
	}
	failed := p.failed()
	if len(failed) == 0 && !all {
		return 0, ErrNothing
	}
	reset := map[int64]bool{}
	switch {
	case all:
		for number := range p.sets {
			reset[number] = true
		}
	case downstream:
		reset = p.downstream(failed)
	}
	cancelled := p.cancelled()
	p.make(reset, !all && !downstream)
	if err := c.takeBack(ctx, flow, p, cancelled); err != nil {
		return 0, err
	}
	if err := c.forget(ctx, flow, p); err != nil {
		return 0, err
	}
	gone := p.gone
	for _, number := range p.order {
		for _, index := range p.anew(number) {
			gone = append(gone, "r"+rdb.Decimal(index))
		}
	}
	k := c.store.Keys
	keys := []string{k.Flow(flow), k.Marks(flow), k.Joins(flow), k.FlowOutbox, k.FlowIDs, k.Task(rdb.NodeID(flow, -1))}
	args := []string{flow, ended, strconv.Itoa(len(gone)), strconv.Itoa(len(p.fields)), string(p.marks)}
	reply, err := c.add(ctx, c.store, "flow_again", keys, slices.Concat(args, gone, p.fields, p.entries, []string{"j0"})...)
	if err == nil && reply != int64(1) {
		err = ErrElse
	}
	return p.left, err
}

// planOf reads what a workflow is.
func (c *Carrier) planOf(ctx context.Context, flow string) (*plan, error) {
	p := &plan{sets: map[int64]Set{}, outs: map[int64][]int64{}, gates: map[int64]*storedGate{}, decided: map[int64]string{}, again: map[int64][]int64{},
		undone: map[int64][]int64{}}
	top := int64(0)
	for s, err := range c.Sets(ctx, flow) {
		if err != nil {
			return nil, err
		}
		p.order = append(p.order, s.Number)
		p.sets[s.Number], p.outs[s.Number] = s, numbers(s.stored.outs)
		top = max(top, s.First+s.Size)
		for _, gate := range p.outs[s.Number] {
			if p.gates[gate] == nil {
				p.gates[gate] = &storedGate{}
				p.numbers = append(p.numbers, gate)
			}
			p.gates[gate].sources = append(p.gates[gate].sources, s)
		}
	}
	reply, err := c.store.Caller.Call(ctx, "GET", c.store.Keys.Marks(flow))
	if err != nil {
		return nil, err
	}
	marks := rdb.Bulk(reply)
	p.marks = append(slices.Clone(marks), make([]byte, max(0, int(top)-len(marks)))...)
	slices.Sort(p.numbers)
	return p, c.readGates(ctx, flow, p)
}

func (c *Carrier) readGates(ctx context.Context, flow string, p *plan) error {
	for some := range slices.Chunk(p.numbers, page) {
		var names []string
		for _, number := range some {
			names = append(names, "g"+rdb.Decimal(number), "d"+rdb.Decimal(number))
		}
		records, err := c.Fields(ctx, flow, names...)
		if err != nil {
			return err
		}
		for i, number := range some {
			words := strings.Fields(string(records[2*i]))
			if len(words) < 3 {
				return fmt.Errorf("%w: workflow %s has no gate %d", errNoFlow, flow, number)
			}
			need, _ := strconv.ParseInt(words[1], 10, 64) //nolint:errcheck // flow_build has stored it
			gate := p.gates[number]
			gate.mode, gate.need, gate.targets, gate.before = words[0], need, numbers(words[2]), string(records[2*i+1])
			gate.maps = numbers(strings.Join(words[3:], ","))
		}
	}
	return nil
}

func (p *plan) marksOf(s Set) []byte { return p.marks[s.First : s.First+s.Size] }

// failed are the sets with nodes that have failed, expired or been cancelled.
func (p *plan) failed() (found []int64) {
	for _, number := range p.order {
		if s := p.sets[number]; s.stored.kind != "c" && bytes.ContainsAny(p.marksOf(s), "fxc") {
			found = append(found, number)
		}
	}
	return found
}

// cancelled are the nodes that were cancelled, by their places in their sets: their tasks may still wait.
func (p *plan) cancelled() map[int64][]int64 {
	found := map[int64][]int64{}
	for number, s := range p.sets {
		for at, mark := range p.marksOf(s) {
			if s.stored.kind == "t" && mark == 'c' {
				found[number] = append(found[number], int64(at))
			}
		}
	}
	return found
}

// anew are the nodes of a set of whose ends nothing holds any more.
func (p *plan) anew(number int64) []int64 { return slices.Concat(p.undone[number], p.again[number]) }

// downstream is all that comes after these sets.
func (p *plan) downstream(from []int64) map[int64]bool {
	seen := map[int64]bool{}
	for waiting := slices.Clone(from); len(waiting) > 0; waiting = waiting[1:] {
		for _, gate := range p.outs[waiting[0]] {
			for _, target := range p.gates[gate].targets {
				if !seen[target] {
					seen[target] = true
					waiting = append(waiting, target)
				}
			}
		}
	}
	return seen
}

// make runs the sets in reset anew, and of the others what has not succeeded.
func (p *plan) make(reset map[int64]bool, keepDecided bool) {
	behind, unsatisfied, doomed, missing := map[int64]int{}, map[int64]int{}, map[int64]int{}, map[int64]int{}
	for number, gate := range p.gates {
		missing[number] = len(gate.sources)
		for _, target := range gate.targets {
			behind[target]++
			unsatisfied[target]++
		}
	}
	var ready []int64
	for _, number := range p.order {
		if behind[number] == 0 {
			ready = append(ready, number)
		}
	}
	for ; len(ready) > 0; ready = ready[1:] {
		number := ready[0]
		p.set(p.sets[number], unsatisfied[number], doomed[number], reset[number])
		for _, out := range p.outs[number] {
			if missing[out]--; missing[out] > 0 {
				continue
			}
			decided := p.judge(out, keepDecided)
			for _, target := range p.gates[out].targets {
				switch decided {
				case "s":
					unsatisfied[target]--
				case "d", "k":
					doomed[target]++
				}
				if behind[target]--; behind[target] == 0 {
					ready = append(ready, target)
				}
			}
		}
	}
	p.count()
}

// put is what a field is from now on.
func (p *plan) put(name string, number, value int64) {
	p.fields = append(p.fields, name+rdb.Decimal(number), rdb.Decimal(value))
}

func (p *plan) set(s Set, unsatisfied, doomed int, whole bool) {
	if s.stored.kind == "c" {
		return
	}
	p.put("w", s.Number, int64(unsatisfied))
	p.put("x", s.Number, int64(doomed))
	marks := p.marksOf(s)
	if unsatisfied > 0 {
		undone := []int64{}
		for i, mark := range marks {
			if mark != 0 && mark != 'k' {
				undone = append(undone, s.First+int64(i))
			}
		}
		p.undone[s.Number] = undone
		mark := byte(0)
		if doomed > 0 {
			mark = 'k'
		}
		for i := range marks {
			marks[i] = mark
		}
		return
	}
	var wanted []int64
	for i, mark := range marks {
		if whole || mark != 's' {
			wanted = append(wanted, s.First+int64(i))
		}
	}
	p.again[s.Number] = wanted
	if len(wanted) == len(marks) || s.stored.kind != "t" {
		for _, index := range wanted {
			p.marks[index] = 0
		}
		if len(wanted) > 0 {
			p.entries = append(p.entries, "i"+rdb.Decimal(s.Number))
		}
		return
	}
	for i := 0; i < len(wanted); {
		end := i
		for ; end < len(wanted) && wanted[end] == wanted[i]+int64(end-i); end++ {
			p.marks[wanted[end]] = 'q'
		}
		p.entries = append(p.entries, fmt.Sprintf("R%d %d %d", s.Number, wanted[i]-s.First, end-i))
		i = end
	}
}

func (p *plan) judge(number int64, keepDecided bool) string {
	gate := p.gates[number]
	var good, ill, skipped, size int64
	nothing := false // a map over nothing waits: it has no member that is still to end
	unmade := false  // it is not known yet how many nodes a map has
	for _, s := range gate.sources {
		marks := p.marksOf(s)
		size += s.Size
		good += int64(bytes.Count(marks, []byte("s")))
		ill += countAny(marks, bad)
		skipped += countAny(marks, "k")
		_, waits := p.undone[s.Number]
		nothing = nothing || s.Size == 0 && waits
		unmade = unmade || slices.Contains(gate.maps, s.Number) && s.stored.kind == "m" && countAny(marks, "s"+bad) == 0
	}
	decided := verdict(gate, good, ill, size, skipped, unmade, p.failed)
	if nothing {
		decided = ""
	}
	if keepDecided && gate.before == "s" {
		decided = "s"
	}
	p.put("o", number, good)
	p.put("b", number, ill)
	p.put("k", number, skipped)
	if p.decided[number] = decided; decided != "" {
		p.fields = append(p.fields, "d"+rdb.Decimal(number), decided)
	} else {
		p.gone = append(p.gone, "d"+rdb.Decimal(number))
	}
	return decided
}

// verdict is as judge in lua/flow_join.lua.
func verdict(gate *storedGate, good, bad, size, skipped int64, unmade bool, failed func() []int64) string {
	switch gate.mode {
	case "a", "x":
		switch {
		case bad > 0:
			return "d"
		case good == size:
			return "s"
		}
		return ""
	case "e":
		if good+bad == size {
			return "s"
		}
		return ""
	case "n":
		switch {
		case bad-skipped >= gate.need:
			return "s"
		case good+skipped > size-gate.need:
			return "d"
		}
		return ""
	}
	need := gate.need
	if gate.mode != "q" && !unmade {
		need = min(need, size)
	}
	switch {
	case good >= need:
		return "s"
	case unmade || bad <= size-need:
		return ""
	case gate.mode == "p" || gate.mode == "q" && bad > skipped || gate.mode == "z" && len(failed()) > 0:
		return "d"
	}
	return "k"
}

// count reckons the counts of the whole.
func (p *plan) count() {
	counts := make([]int64, len(tallies))
	failures := int64(0)
	for _, number := range p.order {
		s := p.sets[number]
		if s.stored.kind == "c" {
			continue
		}
		marks := p.marksOf(s)
		for i, each := range tallies {
			counts[i] += countAny(marks, each.mark)
		}
		p.left += countAny(marks, "\x00q")
		if !s.stored.has("h") {
			failures += countAny(marks, "fxc")
		}
	}
	for number, gate := range p.gates {
		if p.decided[number] == "d" && (gate.mode == "q" || gate.mode == "z") {
			failures++
		}
	}
	for i, each := range tallies {
		p.fields = append(p.fields, each.field, rdb.Decimal(counts[i]))
	}
	p.fields = append(p.fields, "left", rdb.Decimal(p.left), "failures", rdb.Decimal(failures))
}

func countAny(marks []byte, chars string) (count int64) {
	for i := range len(chars) {
		count += int64(bytes.Count(marks, []byte{chars[i]}))
	}
	return count
}
