// Package conformance has what a Go program needs to be tested by scripts/conformance: the notation of values and orders, and the
// functions that a worker serves. See docs/protocol.md, section 9.
package conformance

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Order is a task to enqueue.
type Order struct {
	Queue    string           `json:"queue"`
	Language string           `json:"language"` // python or go
	FuncPath string           `json:"func_path"`
	Args     []Value          `json:"args"`
	Kwargs   map[string]Value `json:"kwargs"`
	Retry    int              `json:"retry"`
}

// Arguments are the values of Args.
func (o *Order) Arguments() ([]any, error) { return natives(o.Args) }

// Keywords is a struct of Kwargs, as a Go program would write it; nil if there are none.
func (o *Order) Keywords() (any, error) {
	if len(o.Kwargs) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(o.Kwargs))
	for name := range o.Kwargs {
		names = append(names, name)
	}
	slices.Sort(names)
	values := make([]any, len(names))
	for i, name := range names {
		value, err := o.Kwargs[name].Native()
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return structOf(values, names), nil
}

// Produce calls enqueue for each order in r. It writes to w, for each that was refused, its number (from 0) and the reason.
func Produce(r io.Reader, w io.Writer, enqueue func(*Order) error) error {
	lines := bufio.NewReader(r)
	for number := 0; ; number++ {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var order Order
		if err := json.Unmarshal(line, &order); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := enqueue(&order); err != nil {
			fmt.Fprintln(w, number, err)
		}
	}
}

// Value is a value in notation: an object of one field, whose name is the kind.
type Value map[string]json.RawMessage

// Native is the value as a Go program has it.
func (v Value) Native() (any, error) {
	for kind, content := range v {
		read, known := readers[kind]
		if !known || len(v) != 1 {
			break
		}
		return read(content)
	}
	return nil, fmt.Errorf("not a value: %v", v)
}

var readers map[string]func(json.RawMessage) (any, error)

func init() { // a literal would refer to itself
	readers = map[string]func(json.RawMessage) (any, error){
		"nil":    func(json.RawMessage) (any, error) { return nil, nil },
		"bool":   read(func(b bool) (any, error) { return b, nil }),
		"int":    read(integer),
		"float":  read(func(s string) (any, error) { return strconv.ParseFloat(s, 64) }),
		"str":    read(func(s string) (any, error) { return s, nil }),
		"bin":    read(func(s string) (any, error) { return hex.DecodeString(s) }),
		"time":   read(instant),
		"list":   read(func(values []Value) (any, error) { return natives(values) }),
		"struct": read(structure),
		"map":    read(mapping),
		"repeat": read(repeated),
		"deep":   read(nested),
	}
}

func read[T any](make func(T) (any, error)) func(json.RawMessage) (any, error) {
	return func(data json.RawMessage) (any, error) {
		var content T
		if err := json.Unmarshal(data, &content); err != nil {
			return nil, err
		}
		return make(content)
	}
}

func natives(values []Value) ([]any, error) {
	made := make([]any, len(values))
	for i, value := range values {
		native, err := value.Native()
		if err != nil {
			return nil, err
		}
		made[i] = native
	}
	return made, nil
}

func integer(text string) (any, error) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > math.MaxInt64 {
		return n, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

func instant(content [2]json.RawMessage) (any, error) {
	var text string
	var nanoseconds int64
	if err := errors.Join(json.Unmarshal(content[0], &text), json.Unmarshal(content[1], &nanoseconds)); err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(seconds, nanoseconds).UTC(), err
}

func mapping(pairs [][2]Value) (any, error) {
	made := map[any]any{}
	for _, pair := range pairs {
		key, err := pair[0].Native()
		if err != nil {
			return nil, err
		}
		value, err := pair[1].Native()
		if err != nil {
			return nil, err
		}
		made[key] = value
	}
	return made, nil
}

func structure(fields []Value) (any, error) {
	values, err := natives(fields)
	if err != nil {
		return nil, err
	}
	return structOf(values, nil), nil
}

// structOf makes a struct with the fields F0, F1, …, tagged with the names if there are any.
func structOf(values []any, names []string) any {
	fields := make([]reflect.StructField, len(values))
	for i, value := range values {
		kind := reflect.TypeFor[any]()
		if value != nil {
			kind = reflect.TypeOf(value)
		}
		fields[i] = reflect.StructField{Name: "F" + strconv.Itoa(i), Type: kind}
		if names != nil {
			fields[i].Tag = reflect.StructTag(`msgpack:"` + names[i] + `"`)
		}
	}
	made := reflect.New(reflect.StructOf(fields)).Elem()
	for i, value := range values {
		if value != nil {
			made.Field(i).Set(reflect.ValueOf(value))
		}
	}
	return made.Interface()
}

func repeated(content [2]json.RawMessage) (any, error) {
	var text string
	var times int
	err := errors.Join(json.Unmarshal(content[0], &text), json.Unmarshal(content[1], &times))
	return strings.Repeat(text, max(times, 0)), err
}

func nested(depth int) (any, error) {
	var made any = int64(0)
	for range depth {
		made = []any{made}
	}
	return made, nil
}
