package delayed

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/vmihailenco/msgpack/v5"
)

type taskVector struct {
	Name, Language, Hex string
	Canonical           bool
	Means               struct {
		FuncPath string `json:"func_path"`
		Args     []any
		Kwargs   map[string]any
		Retry    int
		Payload  any
		Options  map[string]any
		Headers  map[string]any
	}
}

func taskVectors(t *testing.T) []taskVector {
	t.Helper()
	text, err := os.ReadFile("../../tests/vectors/tasks.json")
	must(t, err)
	var file struct{ Vectors []taskVector }
	must(t, json.Unmarshal(text, &file))
	for i := range file.Vectors {
		means := &file.Vectors[i].Means
		means.Payload = integers(means.Payload)
		integers(means.Args)
		integers(means.Kwargs)
		integers(means.Headers)
	}
	return file.Vectors
}

// integers undoes that encoding/json makes floats of all numbers.
func integers(value any) any {
	switch value := value.(type) {
	case float64:
		if value == math.Trunc(value) {
			return int64(value)
		}
	case []any:
		for i := range value {
			value[i] = integers(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = integers(value[key])
		}
	}
	return value
}

func TestTaskVectors(t *testing.T) {
	for _, vector := range taskVectors(t) {
		t.Run(vector.Name, func(t *testing.T) {
			data, err := hex.DecodeString(vector.Hex)
			must(t, err)
			task, err := decode(data)
			var produced Task
			if vector.Language == "python" {
				var refusal *Unrunnable
				if !errors.As(err, &refusal) || refusal.Reason != WrongLanguage {
					t.Fatalf("a Python task: %v", err)
				}
				produced = NewPyTask(vector.Means.FuncPath, vector.Means.Args, vector.Means.Kwargs, vector.options()...)
			} else {
				must(t, err)
				var payload any
				if len(task.payload) > 0 {
					payload, err = wire.NewDecoder(task.payload).Anything()
					must(t, err)
				}
				if string(task.path) != vector.Means.FuncPath || !reflect.DeepEqual(payload, vector.Means.Payload) {
					t.Fatalf("read %s %#v", task.path, payload)
				}
				args, several := payload.([]any)
				if !several && payload != nil {
					args = []any{payload}
				}
				produced = NewGoTask(vector.Means.FuncPath, args...).With(vector.options()...)
				if !equalValues(task.headers.All(), vector.Means.Headers) {
					t.Fatalf("read the headers %#v", task.headers.All())
				}
			}
			written, err := serializeAsOf(produced, vector.Means.Headers)
			must(t, err)
			if bytes.Equal(written, data) != vector.Canonical {
				t.Fatalf("wrote %x", written)
			}
		})
	}
}

type inner struct {
	When time.Time
	Raw  []byte `msgpack:"raw"`
}

type outer struct {
	A     int8   `msgpack:"a"`
	B     uint64 `msgpack:"b"`
	Inner inner
	Deep  *inner
	Many  map[int]inner
	none  int
	Skip  string `msgpack:"-"`
}

func TestStructAsKwargsIsAMap(t *testing.T) { // U13
	when := time.Date(1969, 7, 20, 20, 17, 40, 5000, time.UTC)
	data, err := NewPyTask("m:f", nil, outer{A: -1, B: math.MaxUint64, Inner: inner{when, []byte{0xff}}, none: 1, Skip: "x"}).Serialize()
	must(t, err)
	var fields []any
	must(t, msgpack.Unmarshal(data, &fields))
	kwargs := fields[2].(map[string]any)
	nested := kwargs["Inner"].(map[string]any)
	if len(kwargs) != 5 || kwargs["b"] != uint64(math.MaxUint64) || !nested["When"].(time.Time).Equal(when) ||
		!bytes.Equal(nested["raw"].([]byte), []byte{0xff}) {
		t.Fatalf("%#v", kwargs)
	}
}

func TestPyTaskFields(t *testing.T) {
	cases := map[string]struct {
		task *PyTask
		hex  string
	}{
		"empty kwargs":      {NewPyTask("m:f", []int{1}, map[string]any{}), "92a36d3a669101"},
		"nil of a type":     {NewPyTask("m:f", []int(nil), map[string]int(nil)), "91a36d3a66"},
		"for ever":          {NewPyTask("m:f", nil, nil, Retry(-1)), "94a36d3a669080ff"},
		"array, and no map": {NewPyTask("m:f", [2]string{"a", "b"}, nil), "92a36d3a6692a161a162"},
	}
	for name, c := range cases {
		data, err := c.task.Serialize()
		if err != nil || hex.EncodeToString(data) != c.hex {
			t.Errorf("%s: %x %v", name, data, err)
		}
	}
	for _, task := range []Task{
		NewPyTask("m.f", nil, nil), NewPyTask(":f", nil, nil), NewPyTask("m:f", 1, nil), NewPyTask("m:f", nil, []int{1}),
		NewPyTask("m:f", []any{make(chan int)}, nil), NewGoTask(""), NewGoTask("m:f"), NewGoTask("main.F", func() {}), NewGoTaskOf(3),
	} {
		if _, err := task.Serialize(); !errors.Is(err, ErrInvalidTask) {
			t.Errorf("%v: %v", task, err)
		}
	}
}

func TestUnrunnable(t *testing.T) {
	cases := map[string]struct {
		hex    string
		reason Reason
	}{
		"nothing":                 {"", Undecodable},
		"no MessagePack":          {"c1", Undecodable},
		"cut off":                 {"92a86d61", Undecodable},
		"more than a task":        {"91a66d61696e2e4600", Undecodable},
		"an empty array":          {"90", Undecodable},
		"a map":                   {"80", Undecodable},
		"a number for a path":     {"9101", Undecodable},
		"a number for a payload":  {"92a66d61696e2e4601", Undecodable},
		"headers that are no map": {"93a66d61696e2e46c0c0", Undecodable},
		"a Python path":           {"91a36d3a66", WrongLanguage},
		"a header we must know":   {"93a66d61696e2e46c081a22178c0", UnknownHeader},
		"an array of 4 GiB":       {"92a66d61696e2e46ddffffffff", Undecodable},
		"nested too deep":         {strings.Repeat("91", 5000) + "01", Undecodable},
	}
	for name, c := range cases {
		data, err := hex.DecodeString(c.hex)
		must(t, err)
		_, err = decode(data)
		var refusal *Unrunnable
		if !errors.As(err, &refusal) || refusal.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"a header that may be ignored": "93a66d61696e2e46c081a178c0", "a fourth element": "94a66d61696e2e46c08001"} {
		data, err := hex.DecodeString(text)
		must(t, err)
		if _, err := decode(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x92\xa6main.F\xc4\x01\xc0"))
	h, err := newHandler("main.F", func(any, outer, ...map[any]any) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		if task, err := decode(data); err == nil {
			h.arguments(task.payload) //nolint:errcheck // it must not panic
		}
		h.arguments(data) //nolint:errcheck // likewise
	})
}
