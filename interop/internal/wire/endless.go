package wire

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	DeepestValue = 1000   // levels of a value that is packed or shown
	mostShown    = 10_000 // values that are shown of one
	mostPointers = 100    // to pointers, or structs that are embedded in each other
)

// A value that contains itself would exhaust the stack of whoever walks through it, and no recover catches that.
var (
	ErrEndless = errors.New("it contains itself, or is nested deeper than 1,000 levels")
	ErrMany    = errors.New("it consists of too many values")
)

var ownEncoding = []reflect.Type{
	reflect.TypeFor[msgpack.CustomEncoder](),
	reflect.TypeFor[msgpack.Marshaler](),
	reflect.TypeFor[interface{ MarshalBinary() ([]byte, error) }](),
	reflect.TypeFor[interface{ MarshalText() ([]byte, error) }](),
}

var errType = reflect.TypeFor[error]()

// walker looks through a value before somebody else does who has no bound.
type walker struct {
	left  int  // values that it may still meet
	shown bool // the value is for fmt, and not for MessagePack: all fields count, and pointers only at the top
}

// packable tells why a value cannot be packed that MessagePack would pack without end, or into more than most bytes; nil if it can.
func packable(value any, most int) error {
	if list, ok := value.([]any); ok && len(list) <= most && !slices.ContainsFunc(list, isComplex) || !isComplex(value) { // nearly all
		return nil
	}
	return (&walker{left: most}).walk(reflect.ValueOf(value), 0, 0)
}

// isComplex reports whether there may be something in a value.
func isComplex(value any) bool {
	switch value.(type) {
	case nil, bool, string, []byte, int, int64, uint64, float64, Raw:
		return false
	}
	return true
}

// Showable is packable for what fmt shows.
func Showable(value any) error {
	return (&walker{left: mostShown, shown: true}).walk(reflect.ValueOf(value), 0, 0)
}

// walk looks through v, which is in depth others, behind so many pointers to pointers.
func (w *walker) walk(v reflect.Value, depth, pointers int) error {
	if !v.IsValid() || isPlain(v.Kind()) {
		return nil
	}
	if v.Kind() == reflect.Interface && v.Type() != errType {
		return w.walk(v.Elem(), depth, pointers)
	}
	facts := FactsOf(v.Type())
	if depth >= DeepestValue || pointers > mostPointers || facts.Endless {
		return ErrEndless
	}
	if w.left--; w.left < 0 {
		return ErrMany
	}
	if facts.packsItself && !w.shown {
		return nil
	}
	switch v.Kind() {
	case reflect.Interface:
		return w.walk(v.Elem(), depth, pointers)
	case reflect.Pointer:
		if w.shown && depth > 0 {
			return nil
		}
		return w.walk(v.Elem(), depth, pointers+1)
	case reflect.Slice, reflect.Array:
		for i := 0; i < v.Len() && !isPlain(v.Type().Elem().Kind()); i++ {
			if err := w.walk(v.Index(i), depth+1, 0); err != nil {
				return err
			}
		}
	case reflect.Map:
		return w.pairs(v, depth)
	case reflect.Struct:
		return w.fields(v, depth)
	}
	return nil
}

func (w *walker) pairs(v reflect.Value, depth int) error {
	if isPlain(v.Type().Key().Kind()) && isPlain(v.Type().Elem().Kind()) {
		return nil
	}
	for each := v.MapRange(); each.Next(); {
		for _, part := range []reflect.Value{each.Key(), each.Value()} {
			if err := w.walk(part, depth+1, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) fields(v reflect.Value, depth int) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !w.shown && isUnpacked(field) {
			continue
		}
		if FactsOf(field.Type).Endless { // MessagePack looks at the types of fields, whatever is in them
			return ErrEndless
		}
		if err := w.walk(v.Field(i), depth+1, 0); err != nil {
			return err
		}
	}
	return nil
}

// isUnpacked reports whether MessagePack leaves a field of a struct out.
func isUnpacked(field reflect.StructField) bool {
	name, _, _ := strings.Cut(field.Tag.Get("msgpack"), ",")
	return name == "-" || !field.IsExported() && !field.Anonymous
}

// isPlain reports whether nothing can be in a value of this kind.
func isPlain(kind reflect.Kind) bool {
	switch kind {
	case reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
		return false
	}
	return true
}

var knownTypes sync.Map // reflect.Type → typeFacts

type typeFacts struct {
	Endless     bool // it is a pointer to itself, or embeds itself
	packsItself bool // its values say themselves how they are packed
}

func FactsOf(t reflect.Type) typeFacts {
	if known, found := knownTypes.Load(t); found {
		return known.(typeFacts) //nolint:forcetypeassert // nothing else is in it
	}
	facts := typeFacts{Endless: embeds(t, 0), packsItself: t == errType}
	for _, own := range ownEncoding {
		facts.packsItself = facts.packsItself || t.Implements(own) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(own)
	}
	knownTypes.Store(t, facts)
	return facts
}

func embeds(t reflect.Type, depth int) bool {
	if depth > mostPointers {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		return embeds(t.Elem(), depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if field := t.Field(i); field.Anonymous && embeds(field.Type, depth+1) {
				return true
			}
		}
	}
	return false
}
