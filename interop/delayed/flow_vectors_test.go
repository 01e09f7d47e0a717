package delayed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// flowVector is a workflow, and what the calls of flow_build say that store it: see tests/vectors/flows.json.
type flowVector struct {
	Name, Unique      string
	Policy            any
	Keep              float64
	Success           []map[string]any
	Complete, Failure []map[string]any
	Steps             []map[string]any
	Pages             [][]any
}

func TestAWorkflowIsStoredAsByPython(t *testing.T) {
	text, err := os.ReadFile("../../tests/vectors/flows.json")
	must(t, err)
	var file struct{ Vectors []flowVector }
	must(t, json.Unmarshal(text, &file))
	for _, vector := range file.Vectors {
		queue, err := NewQueue("home", connectTo(t, shared))
		must(t, err)
		f := vector.flow(queue)
		must(t, f.err)
		about, err := f.draw()
		must(t, err)
		l, about := f.layout("flowVECTOR", about)
		l.Now, l.Sender = time.Unix(1_750_000_000, 0), "builder"
		var pages [][]string
		carrier := flow.NewCarrier(queue.store, func(_ context.Context, _ *rdb.Store, _ string, keys []string, args ...string) (any, error) {
			pages = append(pages, slices.Concat(keys, args))
			return int64(1), nil
		})
		must(t, carrier.Store(context.Background(), l, about))
		if len(pages) != len(vector.Pages) {
			t.Errorf("%s: %d pages, not %d", vector.Name, len(pages), len(vector.Pages))
			continue
		}
		for i, page := range pages {
			compare(t, fmt.Sprintf("%s, page %d", vector.Name, i), page, vector.Pages[i])
		}
	}
}

// compare compares the words of a page; null stands for those in the middle.
func compare(t *testing.T, name string, words []string, want []any) {
	t.Helper()
	if len(words) > 200 {
		words = slices.Concat(words[:60], []string{""}, words[len(words)-60:])
	}
	if len(words) != len(want) {
		t.Errorf("%s: %d words, not %d", name, len(words), len(want))
		return
	}
	for i, expected := range want {
		sum := sha256.Sum256([]byte(words[i]))
		switch expected := expected.(type) {
		case string:
			if words[i] != expected {
				t.Errorf("%s: word %d is %q, not %q", name, i, words[i], expected)
			}
		case map[string]any:
			if hex.EncodeToString([]byte(words[i])) != expected["hex"] && hex.EncodeToString(sum[:]) != expected["sha256"] {
				t.Errorf("%s: word %d is %x, not %v", name, i, words[i], expected)
			}
		}
	}
}

func (v flowVector) flow(home *Queue) *Flow {
	options := []FlowOption{ThenSuccess(partsOf(v.Success)...), ThenComplete(partsOf(v.Complete)...), ThenFailure(partsOf(v.Failure)...)}
	if v.Policy != nil {
		options = append(options, OnFailure(policyOf(v.Policy)))
	}
	if v.Unique != "" {
		options = append(options, FlowUnique(v.Unique))
	}
	if v.Keep > 0 {
		options = append(options, FlowKeep(time.Duration(v.Keep)*time.Second))
	}
	f := NewFlow(home, v.Name, options...)
	var refs []Ref
	for _, step := range v.Steps {
		var own []NodeOption
		for _, ref := range list(step["after"]) {
			if pair, some := ref.([]any); some {
				own = append(own, AfterNodes(refs[int(pair[0].(float64))].When(policyOf(pair[1]))))
			} else {
				own = append(own, AfterNodes(refs[int(ref.(float64))]))
			}
		}
		name, _ := step["name"].(string)
		own = append(own, Named(name), When(policyOf(step["when"])), OnSuccess(partsIn(step["on_success"])...), OnError(partsIn(step["on_error"])...))
		timeout, _ := step["timeout"].(float64)
		switch {
		case step["add"] != nil:
			refs = append(refs, f.Add(partOf(step["add"].(map[string]any)), own...))
		case step["map"] != nil:
			refs = append(refs, f.Map(partOf(step["map"].(map[string]any)), refs[int(step["over"].(float64))], own...))
		default:
			refs = append(refs, f.Wait(step["wait"].(string), time.Duration(timeout*float64(time.Second)), own...))
		}
	}
	return f
}

func policyOf(value any) Policy {
	switch value := value.(type) {
	case float64:
		return Quorum(int(value))
	case string:
		return Policy(value)
	}
	return ""
}

func list(value any) []any {
	found, _ := value.([]any)
	return found
}

func partsIn(value any) (parts []Part) {
	for _, each := range list(value) {
		part := each.(map[string]any)
		times, some := part["times"].(float64)
		if some {
			part = part["part"].(map[string]any)
		}
		for range max(1, int(times)) {
			parts = append(parts, partOf(part))
		}
	}
	return parts
}

func partsOf(some []map[string]any) (parts []Part) {
	for _, each := range some {
		parts = append(parts, partOf(each))
	}
	return parts
}

func partOf(part map[string]any) Part {
	options, _ := part["options"].(map[string]any)
	switch {
	case part["chain"] != nil:
		return ChainOf(partsIn(part["chain"])...)
	case part["group"] != nil:
		return GroupOf(partsIn(part["group"])...)
	case part["on"] != nil:
		return On(part["on"].(string), partOf(part["part"].(map[string]any)))
	case part["linked"] != nil:
		return Linked(partOf(part["linked"].(map[string]any)), partsIn(part["on_success"]), partsIn(part["on_error"]))
	case part["py"] != nil:
		return NewPyTask(part["py"].(string), integers(list(part["args"])), integers(part["kwargs"]), optionsIn(options)...)
	}
	return NewGoTask(part["go"].(string), list(integers(list(part["args"])))...).With(optionsIn(options)...)
}

func optionsIn(words map[string]any) (options []TaskOption) {
	seconds := func(name string) time.Duration {
		value, _ := words[name].(float64)
		return time.Duration(value * float64(time.Second))
	}
	for name, value := range words {
		switch name {
		case "retry":
			options = append(options, Retry(int(value.(float64))))
		case "timeout":
			options = append(options, Timeout(seconds(name)))
		case "result_ttl":
			options = append(options, ResultTTL(seconds(name)))
		case "group":
			options = append(options, Group(value.(string)))
		case "unique":
			options = append(options, Unique(value.(string), UntilDone, seconds("unique_for")))
		case "metadata":
			texts := map[string]string{}
			for key, text := range value.(map[string]any) {
				texts[key] = text.(string)
			}
			options = append(options, Metadata(texts))
		case "unique_for":
		default:
			panic("no option of these vectors: " + strings.TrimSpace(name))
		}
	}
	return options
}
