package delayed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
	anonymous   = regexp.MustCompile(`^func\d+$`)
)

// handler is a registered function. Nothing in it changes from task to task, so that many may run at once.
type handler struct {
	name     string
	function reflect.Value
	params   []reflect.Type // without the context
	takesCtx bool
	variadic bool
	failure  int // which of its results is the error, or -1
	plain    func(context.Context) error
}

func newHandler(name string, function any) (*handler, error) {
	value := reflect.ValueOf(function)
	if value.Kind() != reflect.Func || value.IsNil() {
		return nil, fmt.Errorf("%w: %T cannot be registered, only a function can", ErrConfiguration, function)
	}
	kind := value.Type()
	h := &handler{name: name, function: value, variadic: kind.IsVariadic(), failure: -1}
	for i := range kind.NumIn() {
		if i == 0 && kind.In(0) == contextType {
			h.takesCtx = true
			continue
		}
		if wrong := unfit(kind.In(i), 0); wrong != nil {
			return nil, fmt.Errorf("%w: %s takes %s, and no task can have a value of %s: let it take what MessagePack has (a context.Context "+
				"comes first)", ErrConfiguration, name, kind.In(i), wrong)
		}
		h.params = append(h.params, kind.In(i))
	}
	for i := range kind.NumOut() {
		if kind.Out(i) == errorType {
			h.failure = i
		}
	}
	switch plain := function.(type) { // without reflection, which costs as much as all the rest of a small task
	case func():
		h.plain = func(context.Context) error { plain(); return nil }
	case func() error:
		h.plain = func(context.Context) error { return plain() }
	case func(context.Context):
		h.plain = func(ctx context.Context) error { plain(ctx); return nil }
	case func(context.Context) error:
		h.plain = plain
	}
	return h, nil
}

const mostNested = 8 // types in types that are looked into

// unfit is the type, of a parameter or of what it consists of, that no argument of a task can have; nil if there is none.
func unfit(t reflect.Type, depth int) reflect.Type {
	if wire.FactsOf(t).Endless {
		return t
	}
	if depth > mostNested { // a type may consist of itself
		return nil
	}
	for _, own := range wire.OwnDecoding {
		if reflect.PointerTo(t).Implements(own) {
			return nil
		}
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return t
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return t
		}
	case reflect.Map:
		return cmp.Or(unfit(t.Key(), depth+1), unfit(t.Elem(), depth+1))
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return unfit(t.Elem(), depth+1)
	}
	return nil // what is wrong with a field may not matter
}

// isAnonymous reports whether the path is of a function without a name, whose path changes with what stands beside it.
func isAnonymous(path string) bool {
	parts := strings.Split(path[strings.LastIndex(path, "/")+1:], ".")
	return len(parts) > 2 && slices.ContainsFunc(parts[2:], anonymous.MatchString)
}

// ownPath is the path of a function by which producers may know it.
func ownPath(function any) (string, error) {
	path := pathOf(function)
	if isAnonymous(path) {
		return "", fmt.Errorf("%w: %s is no name that a producer could know: give the function a name, or a path with RegisterAs or HandleAs",
			ErrConfiguration, path)
	}
	return path, nil
}

// call decodes the arguments, freshly for each task, and calls the function. The error is an *Unrunnable if the arguments do not fit.
func (h *handler) call(ctx context.Context, payload []byte, middlewares ...Middleware) error {
	args, err := h.bind(payload)
	if err != nil {
		return err
	}
	if len(middlewares) == 0 {
		err = h.run(ctx, args)
	} else {
		err = runAround(ctx, middlewares, func(ctx context.Context) error { return h.run(ctx, args) })
	}
	if isRefusal(err) { // it has run
		return failed(err)
	}
	return err
}

func (h *handler) run(ctx context.Context, args []reflect.Value) error {
	if h.plain != nil {
		return h.plain(ctx)
	}
	results := h.results(ctx, args)
	if err := h.failed(results); err != nil {
		return err
	}
	return h.unfinished(results)
}

// callForValue is call for a task whose value matters: the only result that is no error, or an array of several. The error is the
// function's own.
func (h *handler) callForValue(ctx context.Context, args []reflect.Value, kept bool) (any, error) {
	if !kept {
		return nil, h.run(ctx, args)
	}
	results := h.results(ctx, args)
	if err := h.failed(results); err != nil {
		return nil, err
	}
	var values []any
	for i, result := range results {
		if i != h.failure {
			values = append(values, result.Interface())
		}
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return values, nil
}

// bind decodes the arguments, freshly for each task.
func (h *handler) bind(payload []byte) ([]reflect.Value, error) {
	args, err := h.arguments(payload)
	if err != nil {
		return nil, unrunnable(BadArguments, "%s: %v", h.name, err)
	}
	return args, nil
}

func (h *handler) results(ctx context.Context, args []reflect.Value) []reflect.Value {
	if h.takesCtx {
		args = append([]reflect.Value{reflect.ValueOf(ctx)}, args...)
	}
	if h.variadic {
		return h.function.CallSlice(args)
	}
	return h.function.Call(args)
}

func (h *handler) failed(results []reflect.Value) error {
	if h.failure >= 0 && !results[h.failure].IsNil() {
		return results[h.failure].Interface().(error) //nolint:forcetypeassert // newHandler looked
	}
	return nil
}

// unfinished is the failure of a function that returned a function or a channel: what would come of that never happens.
func (h *handler) unfinished(results []reflect.Value) error {
	for i, result := range results {
		if result.Kind() == reflect.Interface {
			result = result.Elem()
		}
		if k := result.Kind(); i != h.failure && (k == reflect.Func || k == reflect.Chan) && !result.IsNil() {
			return &unfinished{result.Type()}
		}
	}
	return nil
}

// unfinished is the failure of a task that left its work to somebody else.
type unfinished struct{ kind reflect.Type }

func (u *unfinished) Error() string {
	return fmt.Sprintf("it returned a %s, which nobody calls or reads, so that what it stands for has not run: do the work in the "+
		"function itself, and return values", u.kind)
}

// arguments makes values for the parameters: a single one takes the payload as it is, several take the elements of an array. A
// variadic parameter takes an array, which may be absent; if it is the only one, that array is the payload.
func (h *handler) arguments(payload []byte) ([]reflect.Value, error) {
	args := make([]reflect.Value, len(h.params))
	for i, param := range h.params {
		args[i] = reflect.New(param).Elem()
	}
	if len(payload) == 0 {
		payload = []byte{msgpcode.Nil}
	}
	if end, err := wire.Skip(payload, 0); err != nil {
		return nil, err
	} else if end != len(payload) {
		return nil, errors.New("bytes follow the arguments")
	}
	h0, _ := wire.HeadAt(payload, 0)
	d := wire.NewDecoder(payload)
	switch {
	case len(args) == 1 && h.variadic && h0.Kind != wire.KindArray && h0.Kind != wire.KindNil:
		args[0].Set(reflect.MakeSlice(h.params[0], 1, 1)) // one argument is packed bare
		return args, d.Into(args[0].Index(0))
	case len(args) == 1 && h0.Kind == wire.KindArray && h0.Values == 1 && isScalar(h.params[0]):
		// Python's GoTask(path, (value,)): there is nothing else that it could mean.
		if _, err := d.DecodeArrayLen(); err != nil {
			return nil, err
		}
		return args, d.Into(args[0])
	case len(args) == 1:
		return args, d.Into(args[0])
	case len(args) == 0 && h0.Kind == wire.KindNil:
		return args, nil
	}
	return args, h.several(d, h0, args)
}

// several reads the elements of an array into args.
func (h *handler) several(d wire.Decoder, h0 wire.Head, args []reflect.Value) error {
	least := len(args)
	if h.variadic {
		least--
	}
	if h0.Kind != wire.KindArray || h0.Values < least || h0.Values > len(args) {
		return fmt.Errorf("it takes %d arguments, and the task has %s", len(args), describePayload(h0))
	}
	if _, err := d.DecodeArrayLen(); err != nil {
		return err
	}
	for i := range h0.Values {
		if err := d.Into(args[i]); err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return nil
}

// isScalar reports whether no array could be a value of the type.
func isScalar(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return wire.IsOne(t) || t.Kind() == reflect.String || t.Kind() >= reflect.Bool && t.Kind() <= reflect.Float64
}

func describePayload(h wire.Head) string {
	switch h.Kind {
	case wire.KindNil:
		return "none"
	case wire.KindArray:
		return fmt.Sprint(h.Values)
	}
	return "one"
}
