package interest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// vectors is tests/vectors/interests.json, which the Python package runs, too.
type vectors struct {
	Patterns []struct {
		Pattern   string
		Fits, Not []string
	}
	Refused, Accepted []string
	Entries           []struct {
		Name    string
		Data    any
		Entries [][2]any
	}
	Tables []struct {
		Name      string
		Interests []struct {
			Queue, Function string
			Match           [][2]string
		}
		Published []struct {
			Data   any
			Queues []string
		}
	}
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile("../../../tests/vectors/interests.json")
	if err != nil {
		t.Fatal(err)
	}
	var found vectors
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// spelled is a text, also one that is repeated.
func spelled(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	repeated := value.(map[string]any)
	head, _ := repeated["head"].(string)
	return head + strings.Repeat(repeated["of"].(string), int(repeated["repeat"].(float64)))
}

func TestPatterns(t *testing.T) {
	for _, vector := range readVectors(t).Patterns {
		fits, err := Matcher(vector.Pattern)
		if err != nil {
			t.Errorf("%.60q: %s", vector.Pattern, err)
			continue
		}
		for _, text := range vector.Fits {
			if !fits(bounded(text)) {
				t.Errorf("%.60q does not fit %.60q", vector.Pattern, text)
			}
		}
		for _, text := range vector.Not {
			if fits(bounded(text)) {
				t.Errorf("%.60q fits %.60q", vector.Pattern, text)
			}
		}
	}
}

func TestWhatIsAPattern(t *testing.T) {
	v := readVectors(t)
	for _, pattern := range v.Refused {
		if _, err := Matcher(pattern); err == nil {
			t.Errorf("%.60q was not refused", pattern)
		}
	}
	for _, pattern := range v.Accepted {
		if _, err := Matcher(pattern); err != nil {
			t.Errorf("%.60q: %s", pattern, err)
		}
	}
}

func TestEntries(t *testing.T) {
	for _, vector := range readVectors(t).Entries {
		data, err := hex.DecodeString(spelled(vector.Data))
		if err != nil {
			t.Fatal(err)
		}
		var want []Entry
		for _, pair := range vector.Entries {
			want = append(want, Entry{spelled(pair[0]), spelled(pair[1])})
		}
		// Texts are JSON here, which has no bytes that are not UTF-8.
		if got, err := Entries(data); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %.300v, not %.300v (%v)", vector.Name, got, want, err)
		}
	}
}

func TestTables(t *testing.T) {
	for _, vector := range readVectors(t).Tables {
		fields := map[string]string{"": "9 token", "odd": "1 x"}
		for place, each := range vector.Interests {
			i := &Interest{Queue: each.Queue, Match: each.Match, Function: each.Function}
			packed, err := i.Pack()
			if err != nil {
				t.Fatal(err)
			}
			fields[each.Queue] = string(rune('0'+place)) + " " + packed
		}
		table := NewTable(fields)
		for _, published := range vector.Published {
			data, err := msgpack.Marshal(published.Data)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := Entries(data)
			if err != nil {
				t.Fatal(err)
			}
			queues := []string{}
			for _, each := range table.Fitting(entries) {
				queues = append(queues, each.Queue)
			}
			if !reflect.DeepEqual(queues, published.Queues) {
				t.Errorf("%s: %v goes to %v, not %v", vector.Name, published.Data, queues, published.Queues)
			}
		}
	}
}

func TestTooManyEntries(t *testing.T) {
	many := map[int]any{}
	for i := range most + 1 {
		many[i] = nil
	}
	data, _ := msgpack.Marshal(many)
	if _, err := Entries(data); err == nil {
		t.Error("a map with more than 1,000 entries was not refused")
	}
}

func TestWhatIsNoInterest(t *testing.T) {
	for _, i := range []Interest{
		{Queue: "q", Function: "m:f"},
		{Queue: "q", Match: make([][2]string, mostPairs+1), Function: "m:f"},
		{Queue: "q", Match: [][2]string{{"*", "regex:("}}, Function: "m:f"},
		{Queue: "q", Match: [][2]string{{"*", "*"}}, Function: "f"},
		{Queue: "q", Match: [][2]string{{"*", "*"}}, Function: "m:"},
		{Queue: "q", Match: [][2]string{{"*", "*"}}, Function: "main."},
		{Queue: "q_dead", Match: [][2]string{{"*", "*"}}, Function: "m:f"},
		{Queue: "delayed:interests", Match: [][2]string{{"*", "*"}}, Function: "m:f"},
	} {
		if i.Prepare() == nil {
			t.Errorf("%.100v was not refused", i)
		}
	}
}
