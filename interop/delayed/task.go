package delayed

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	"github.com/delayedq/delayed/interop/internal/wire"
)

const mostHeads = 11 // bytes of a Go task beside its path, payload and headers

// Task is what can be enqueued: a GoTask or a PyTask.
type Task interface {
	// FuncPath is the path of the function to call.
	FuncPath() string
	// Serialize gives the bytes that go to Redis. The error wraps ErrInvalidTask.
	Serialize() ([]byte, error)
}

// GoTask is a call of a Go function.
type GoTask struct {
	path    string
	args    []any
	options *taskOptions
}

// NewGoTask is a call of the function that a worker has registered under path, usually `package/path.Function`. Structs travel as
// arrays of their fields, in order. A variadic parameter takes a slice (or, where it is the only one, the arguments themselves).
func NewGoTask(path string, args ...any) *GoTask { return &GoTask{path: path, args: args} }

// NewGoTaskOf is a call of a function that is registered under its own path.
func NewGoTaskOf(function any, args ...any) *GoTask {
	return &GoTask{path: pathOf(function), args: args}
}

// With makes the task ask for more, and returns it: NewGoTask("main.Resize", 200).With(Retry(3), After(time.Minute)).
func (t *GoTask) With(options ...TaskOption) *GoTask {
	t.options = t.options.with(options)
	return t
}

func (t *GoTask) asks() *taskOptions { return t.options }

// FuncPath is the path of the function to call.
func (t *GoTask) FuncPath() string { return t.path }

// Serialize gives the bytes that go to Redis. Those of a tracked task have a new id each time, as each time that it is enqueued.
func (t *GoTask) Serialize() ([]byte, error) { return t.serialize(newBirth()) }

func (t *GoTask) serialize(b birth) ([]byte, error) {
	if t.path == "" || strings.Contains(t.path, wire.Separator) {
		return nil, fmt.Errorf("%w: %q is not the path of a Go function: write it as 'package/path.Function'", ErrInvalidTask, t.path)
	}
	data, err := t.payload()
	if err != nil {
		return nil, err
	}
	count, retry := 2, 0
	if t.options != nil {
		retry = t.options.retry
	}
	headers, err := t.options.packed(retry, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	if headers != nil {
		count = 3
	}
	task := make([]byte, 0, len(t.path)+len(data)+len(headers)+mostHeads)
	task = wire.AppendString(wire.AppendArray(task, count), t.path)
	return append(wire.AppendBytes(task, data), headers...), nil
}

// payload are the arguments, packed.
func (t *GoTask) payload() ([]byte, error) {
	var payload any
	switch len(t.args) {
	case 0:
	case 1:
		payload = t.args[0]
	default:
		payload = t.args
	}
	data, err := wire.Encode(payload, true)
	if err != nil {
		return nil, fmt.Errorf("%w: the arguments of %s: %w", ErrNotEncodable, t.path, err)
	}
	return data, nil
}

// PyTask is a call of a Python function.
type PyTask struct {
	path    string
	args    any
	kwargs  any
	options *taskOptions
}

// NewPyTask is a call of the Python function at path, `module.path:function`. args is a slice or an array of the positional
// arguments, or nil. kwargs is a map or a struct of the keyword arguments, or nil. Structs travel as maps of their exported fields,
// each under the name in its tag `msgpack:"name"` or else its own.
func NewPyTask(path string, args, kwargs any, options ...TaskOption) *PyTask {
	return &PyTask{path: path, args: args, kwargs: kwargs, options: (*taskOptions)(nil).with(options)}
}

func (t *PyTask) asks() *taskOptions { return t.options }

// FuncPath is the path of the function to call.
func (t *PyTask) FuncPath() string { return t.path }

// Serialize gives the bytes that go to Redis: cut from the right where empty, as the Python producers do. As for GoTask, a tracked task
// has a new id each time.
func (t *PyTask) Serialize() ([]byte, error) { return t.serialize(newBirth()) }

func (t *PyTask) serialize(b birth) ([]byte, error) {
	module, name, _ := strings.Cut(t.path, wire.Separator)
	if module == "" || name == "" {
		return nil, fmt.Errorf("%w: %q is not the path of a Python function: write it as 'module.path:function'", ErrInvalidTask, t.path)
	}
	args, hasArgs, err := t.field("args", t.args, wire.KindArray, 0x90)
	if err != nil {
		return nil, err
	}
	kwargs, hasKwargs, err := t.field("kwargs", t.kwargs, wire.KindMap, 0x80)
	if err != nil {
		return nil, err
	}
	retry := 0
	if t.options != nil {
		retry = t.options.retry
	}
	headers, err := t.options.packed(0, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	fields := []any{t.path}
	switch {
	case headers != nil:
		fields = append(fields, args, kwargs, retry, headers)
	case retry != 0:
		fields = append(fields, args, kwargs, retry)
	case hasKwargs:
		fields = append(fields, args, kwargs)
	case hasArgs:
		fields = append(fields, args)
	}
	return wire.Encode(fields, false)
}

// field encodes one of the two fields that hold arguments, and reports whether there is anything in it.
func (t *PyTask) field(name string, value any, want wire.Kind, empty byte) (wire.Raw, bool, error) {
	data, err := wire.Encode(value, false)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %s of %s: %w", ErrNotEncodable, name, t.path, err)
	}
	h, err := wire.HeadAt(data, 0)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("%w: %s of %s: %w", ErrNotEncodable, name, t.path, err)
	case h.Kind == wire.KindNil:
		return wire.Raw{empty}, false, nil
	case h.Kind != want:
		return nil, false, fmt.Errorf("%w: %s: args is a slice or an array, and kwargs a map or a struct; %s is %T",
			ErrInvalidTask, t.path, name, value)
	}
	return data, h.Values > 0, nil
}

// pathOf is the path of a function, as the runtime knows it; empty for what is no function.
func pathOf(function any) string {
	value := reflect.ValueOf(function)
	if value.Kind() != reflect.Func || value.IsNil() {
		return ""
	}
	return runtime.FuncForPC(value.Pointer()).Name()
}

// call is a Go task as a worker needs it. It refers to the task's bytes.
type call struct {
	path    []byte
	payload []byte // MessagePack; empty for no arguments
	headers wire.Headers
}

// decode reads the Go task in data, whoever wrote it.
func decode(data []byte) (call, error) {
	end, err := wire.Skip(data, 0)
	if err == nil && end != len(data) {
		err = fmt.Errorf("not a task: %d bytes follow it", len(data)-end)
	}
	if err != nil {
		return call{}, &Unrunnable{Undecodable, err.Error()}
	}
	first, _ := wire.HeadAt(data, 0)
	fields, at := 1, 0 // a bare string stands for a task without arguments
	if first.Kind == wire.KindArray {
		fields, at = first.Values, first.Body
	}
	if fields == 0 {
		return call{}, unrunnable(Undecodable, "not a task: an empty array")
	}
	h, _ := wire.HeadAt(data, at)
	if h.Kind != wire.KindString {
		return call{}, unrunnable(Undecodable, "not a task: expected an array that begins with a path, found %.100x", data)
	}
	task := call{path: data[h.Body : h.Body+h.Size]}
	if bytes.Contains(task.path, []byte(wire.Separator)) {
		return task, unrunnable(WrongLanguage,
			"%q is the path of a Python function, and this is a Go worker: give Python tasks a queue of their own", task.path)
	}
	at = h.Body + h.Size
	if fields > 1 {
		h, _ = wire.HeadAt(data, at)
		if h.Kind != wire.KindBytes && h.Kind != wire.KindString && h.Kind != wire.KindNil {
			return call{}, unrunnable(Undecodable, "not a task: expected bytes after the path, found %.100x", data[at:])
		}
		task.payload = data[h.Body : h.Body+h.Size]
		at = h.Body + h.Size
	}
	if fields > 2 {
		task.headers, err = readHeaders(data, at)
	}
	return task, err
}

// pathIn is the function path in data, for the log; a description where there is none.
func pathIn(data []byte) string {
	task, err := decode(data)
	if err != nil && task.path == nil {
		return "(not a Go task)"
	}
	return string(task.path)
}

// readHeaders finds the headers in the map at a place of a task. A header whose name begins with `!` must be
// understood, and none is so far.
func readHeaders(data []byte, at int) (wire.Headers, error) {
	if h, _ := wire.HeadAt(data, at); h.Kind != wire.KindMap {
		return wire.Headers{}, unrunnable(Undecodable, "not a task: expected a map of headers after the payload, found %.100x", data[at:])
	}
	headers, strange := wire.HeadersAt(data, at)
	if strange != "" {
		return headers, unrunnable(UnknownHeader, "this worker is too old for the header %q: upgrade it", strange)
	}
	return headers, nil
}
