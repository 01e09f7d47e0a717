package delayed

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	longestDetail = 10_000 // bytes that a dead letter keeps of what happened
	mostErrors    = 1000   // that are looked at, of an error and those that it wraps
)

// failure is how a task failed, in our own words. What a function returns or panics with is the task's: its methods may panic, end
// their goroutine, or never return. So they are called in the task's execution, and nobody asks them again.
type failure struct {
	reason Reason
	kind   string // its type
	text   string // what it says
	stack  string // where it panicked, if it did; the innermost function comes first
	leaves []leaf
}

// leaf is one of the failures that an error joins: mostly there is one.
type leaf struct {
	names     []string // by which RetryOn and GiveUpOn may mean it: of its types and of those that it wraps
	asks      bool     // for RetryAfter …
	after     time.Duration
	cancelled bool // it is that a context was cancelled …
	overdue   bool // … or past its deadline
}

func (f *failure) Error() string { return f.text }

// failed is the failure that an error of a task is; nil for nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	if known, ok := err.(*failure); ok { //nolint:errorlint // an error that wraps one is another
		return known
	}
	f := &failure{reason: Failed, kind: typeName(err), text: cutMiddle(said(err), longestDetail), leaves: leavesOf(err)}
	switch err := err.(type) { //nolint:errorlint // likewise
	case *hardTimeout:
		f.reason, f.kind = Overran, string(Overran)
	case *lateWith:
		f.kind, f.leaves = typeName(err.late), slices.DeleteFunc(f.leaves, func(each leaf) bool { return each.cancelled || each.overdue })
	}
	return f
}

// catchPanic, deferred, makes a failure of a panic.
func catchPanic(err *error) {
	if value := recover(); value != nil {
		*err = panicked(value, debug.Stack())
	}
}

// catchFault, deferred, makes an error of a panic that is this program's or its log's or dialer's, and no task's.
func catchFault(err *error) {
	if value := recover(); value != nil {
		*err = fmt.Errorf("panic: %s\n\n%s", shownValue(value), debug.Stack())
	}
}

// panicked is the failure of a task that panicked.
func panicked(value any, stack []byte) *failure {
	if at := bytes.Index(stack, []byte("\npanic(")); at >= 0 { // what is above it is ours
		stack = stack[at+1:]
	}
	text, plain := value.(string)
	if !plain {
		text = typeName(value) + ": " + shownValue(value)
	}
	return &failure{
		reason: Failed, kind: "panic", text: "panic: " + cutMiddle(text, longestDetail), stack: string(stack),
		leaves: []leaf{{names: []string{"panic", "delayed.panicked", "panicked"}}},
	}
}

// detail is what the dead letter says. However long all that is, the type, the beginning of what it said and the innermost functions
// stay.
func (f *failure) detail() string {
	text := f.text
	if f.kind != "panic" && f.reason != Overran { // these say it themselves
		text = f.kind + ": " + text
	}
	if f.stack == "" {
		return cutMiddle(text, longestDetail)
	}
	text = cutMiddle(text, longestDetail/2)
	return text + "\n\n" + cutMiddle(f.stack, longestDetail-len(text)-2)
}

// cutMiddle is text, without what makes it longer than most bytes.
func cutMiddle(text string, most int) string {
	if len(text) <= most {
		return text
	}
	gap := fmt.Sprintf(" … (%d bytes left out) … ", len(text)-most)
	head := (most - len(gap)) * 2 / 3
	tail := len(text) - (most - len(gap) - head)
	for head > 0 && !utf8.RuneStart(text[head]) {
		head--
	}
	for tail < len(text) && !utf8.RuneStart(text[tail]) {
		tail++
	}
	return text[:head] + gap + text[tail:]
}

// said is what an error says, whatever its method does.
func said(err error) (text string) {
	defer func() {
		value := recover()
		switch v := reflect.ValueOf(err); {
		case value == nil:
		case v.Kind() == reflect.Pointer && v.IsNil():
			text = fmt.Sprintf("nil %T returned as an error, which is not nil: return a bare nil", err)
		default:
			text = fmt.Sprintf("(its Error method panics: %s)", shownValue(value))
		}
	}()
	return err.Error()
}

// shownValue is what fmt shows of a value, within bounds.
func shownValue(value any) (text string) {
	defer func() {
		if recover() != nil {
			text = "(its methods panic)"
		}
	}()
	switch value := value.(type) {
	case string:
		return value
	case error:
		return said(value)
	}
	if err := wire.Showable(value); err != nil {
		return "(" + err.Error() + ")"
	}
	return fmt.Sprint(value)
}

// typeName is the type of a value as Go's programs call it, without the star of a pointer.
func typeName(value any) string { return strings.TrimPrefix(fmt.Sprintf("%T", value), "*") }

// annotated is the type of fmt.Errorf with several %w: it says more about one failure, where errors.Join has several.
var annotated = reflect.TypeOf(fmt.Errorf("%w%w", wire.ErrEndless, wire.ErrMany))

// leavesOf are the failures that an error joins.
func leavesOf(err error) []leaf {
	left := mostErrors
	return gather(err, nil, &left)
}

// gather are the leaves of an error that is wrapped by errors of these names.
func gather(err error, above []string, left *int) []leaf {
	if *left--; *left < 0 {
		return []leaf{{names: above}}
	}
	names := append(above[:len(above):len(above)], namesOf(err)...)
	inner := unwrapped(err)
	if len(inner) == 0 {
		this := leaf{names: names, cancelled: isOne(err, context.Canceled), overdue: isOne(err, context.DeadlineExceeded)}
		if asked, ok := err.(*retryAfter); ok && asked != nil { //nolint:errorlint // the loop looks into it
			this.asks, this.after = true, max(asked.after, 0)
		}
		return []leaf{this}
	}
	var leaves []leaf
	for _, each := range inner {
		leaves = append(leaves, gather(each, names, left)...)
	}
	if reflect.TypeOf(err) == annotated {
		return merged(leaves)
	}
	return leaves
}

// merged makes one of several leaves that say something about the same failure.
func merged(leaves []leaf) []leaf {
	var one leaf
	for _, each := range leaves {
		one.names = append(one.names, each.names...)
		one.asks, one.after = one.asks || each.asks, max(one.after, each.after)
		one.cancelled, one.overdue = one.cancelled || each.cancelled, one.overdue || each.overdue
	}
	return []leaf{one}
}

// namesOf are the names of an error's type.
func namesOf(err error) []string {
	kind := reflect.TypeOf(err)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	return []string{kind.PkgPath() + "." + kind.Name(), kind.String(), kind.Name()}
}

// unwrapped are the errors that an error wraps, whatever its method does.
func unwrapped(err error) (inner []error) {
	defer func() {
		if recover() != nil {
			inner = nil
		}
	}()
	switch wrapper := err.(type) { //nolint:errorlint // this is what looks into it
	case interface{ Unwrap() error }:
		inner = []error{wrapper.Unwrap()}
	case interface{ Unwrap() []error }:
		inner = wrapper.Unwrap()
	}
	found := make([]error, 0, min(len(inner), mostErrors))
	for _, each := range inner {
		if each != nil && len(found) < mostErrors {
			found = append(found, each)
		}
	}
	return found
}

// isA is errors.Is, whatever the errors' methods do, and however many there are.
func isA(err, target error) bool {
	left := mostErrors
	return isWithin(err, target, &left)
}

func isWithin(err, target error, left *int) bool {
	if *left--; err == nil || *left < 0 {
		return false
	}
	if isOne(err, target) {
		return true
	}
	for _, inner := range unwrapped(err) {
		if isWithin(inner, target, left) {
			return true
		}
	}
	return false
}

// isOne reports whether an error is the target, or says so.
func isOne(err, target error) (is bool) {
	defer func() {
		if recover() != nil {
			is = false
		}
	}()
	if reflect.TypeOf(target).Comparable() && err == target { //nolint:errorlint // this is what looks into it
		return true
	}
	says, ok := err.(interface{ Is(error) bool })
	return ok && says.Is(target)
}

// asks reports whether the task wants to run again, and after which pause: it has returned RetryAfter, and beside that nothing but that
// it was cancelled. The longest pause counts.
func (f *failure) asks() (pause time.Duration, asked bool) {
	for _, each := range f.leaves {
		if !each.asks && !each.cancelled {
			return 0, false
		}
		asked, pause = asked || each.asks, max(pause, each.after)
	}
	return pause, asked
}

// isBare reports whether err is nothing but targets.
func isBare(err error, targets ...error) bool {
	inner := unwrapped(err)
	if len(inner) > 1 && reflect.TypeOf(err) != annotated {
		for _, each := range inner {
			if !isBare(each, targets...) {
				return false
			}
		}
		return true
	}
	for _, target := range targets {
		if isA(err, target) {
			return true
		}
	}
	return false
}
