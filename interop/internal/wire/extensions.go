package wire

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const mostNestedSets = 4 // sets in sets: each is bytes in bytes, and nothing else bounds how deep

var (
	ownMessagePack = []reflect.Type{reflect.TypeFor[msgpack.CustomDecoder](), reflect.TypeFor[msgpack.Unmarshaler]()}
	textDecoding   = reflect.TypeFor[encoding.TextUnmarshaler]()
	timeType       = reflect.TypeFor[time.Time]()
	durationType   = reflect.TypeFor[time.Duration]()
	durationsType  = reflect.TypeFor[Duration]()
	decimalType    = reflect.TypeFor[Decimal]()
	uuidType       = reflect.TypeFor[UUID]()
	dateType       = reflect.TypeFor[Date]()
	timesType      = reflect.TypeFor[TimeOfDay]()
	setType        = reflect.TypeFor[Set]()
	bytesType      = reflect.TypeFor[[]byte]()
)

// IsOne reports whether a value of the type is one value that reads itself, although its kind may be that of several.
func IsOne(t reflect.Type) bool {
	return t == uuidType || t == dateType || t == timesType || reflect.PointerTo(t).Implements(textDecoding) && !readsItself(t)
}

// extension is the code and the payload of the extension type that comes next, and where it ends; ok is false if it is none of ours.
func (d Decoder) extension() (code int8, payload []byte, end int, ok bool) {
	h, err := HeadAt(d.data, len(d.data)-d.reader.Len())
	if err != nil || h.Size == 0 {
		return 0, nil, 0, false
	}
	code, end = int8(d.data[h.Body]), h.Body+h.Size //nolint:gosec // it is signed
	return code, d.data[h.Body+1 : end], end, code >= codeDecimal && code <= lastReserved
}

// extended reads the next value, if it is of an extension type of ours, into v, unless the type of v reads MessagePack itself.
func (d Decoder) extended(v reflect.Value) (done bool, err error) {
	code, payload, end, ok := d.extension()
	if !ok || v.Kind() == reflect.Pointer || readsItself(v.Type()) {
		return false, nil
	}
	if _, err := d.reader.Seek(int64(end), io.SeekStart); err != nil {
		return true, err
	}
	value, err := d.extensionValue(code, payload)
	if err != nil {
		return true, err
	}
	return true, d.assign(v, code, payload, value)
}

func isOurs(t reflect.Type) bool {
	switch t {
	case decimalType, uuidType, dateType, timesType, durationsType, setType:
		return true
	}
	return t == reflect.TypeFor[Path]()
}

// readsItself reports whether a type reads MessagePack itself.
func readsItself(t reflect.Type) bool {
	return slices.ContainsFunc(ownMessagePack, reflect.PointerTo(t).Implements)
}

// extensionValue is the value of an extension type, in our own type for it; of a set, it is nil.
func (d Decoder) extensionValue(code int8, payload []byte) (value any, err error) {
	text := string(payload)
	switch code {
	case codeDecimal:
		value = Decimal(text)
		if !decimalForm.MatchString(text) {
			err = fmt.Errorf("%.40q is not a decimal number", text)
		}
	case codeUUID:
		if len(payload) != len(UUID{}) {
			return nil, fmt.Errorf("%d bytes are not a UUID", len(payload))
		}
		value = UUID(payload)
	case codeDate:
		value, err = parseDate(text)
	case codeTime:
		value, err = parseTime(text)
	case codeDuration:
		var length time.Duration
		length, err = parseDuration(text)
		value = Duration(length)
	case codePath:
		value = Path(text)
	case codeSet, codeFrozenSet:
		return nil, d.checkSet(payload)
	default:
		err = fmt.Errorf("it has a value of extension type %d, which this version does not know: upgrade it", code)
	}
	return value, err
}

func (d Decoder) checkSet(payload []byte) error {
	if d.nested >= mostNestedSets {
		return fmt.Errorf("a set is in %d others", mostNestedSets)
	}
	end, err := Skip(payload, 0)
	if err != nil {
		return err
	}
	if h, _ := HeadAt(payload, 0); h.Kind != KindArray || end != len(payload) {
		return fmt.Errorf("a set is an array and nothing else, found %.100x", payload)
	}
	return nil
}

// assign puts a value of an extension type into v.
func (d Decoder) assign(v reflect.Value, code int8, payload []byte, value any) error {
	if code == codeSet || code == codeFrozenSet {
		return d.elements(v, payload)
	}
	given := reflect.ValueOf(value)
	switch {
	case given.Type().AssignableTo(v.Type()):
		v.Set(given)
		return nil
	case code == codeDate && v.Type() == timeType:
		v.Set(reflect.ValueOf(value.(Date).In(time.UTC))) //nolint:forcetypeassert // it is one
		return nil
	case code == codeDuration && v.Type() == durationType, code == codeUUID && v.Kind() == reflect.Array && given.CanConvert(v.Type()):
		v.Set(given.Convert(v.Type()))
		return nil
	case code == codeUUID && v.Type() == bytesType:
		v.SetBytes(payload)
		return nil
	case v.Type() != timeType && v.Addr().Type().Implements(textDecoding):
		return unmarshalText(v, value)
	case v.Kind() == reflect.String && !isOurs(v.Type()):
		v.SetString(textOf(value))
		return nil
	}
	return fmt.Errorf("a %s does not fit %s", codeNames[code], v.Type())
}

// unmarshalText hands the text of a value to a type that reads it, as big.Rat does.
func unmarshalText(v reflect.Value, value any) error {
	if decimal, ok := value.(Decimal); ok {
		if err := decimal.check(); err != nil { // big.Rat would compute the power
			return err
		}
	}
	return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(textOf(value))) //nolint:forcetypeassert // it is one
}

func textOf(value any) string {
	if d, ok := value.(Duration); ok {
		return d.text()
	}
	return fmt.Sprint(value)
}

// elements reads those of a set: into a slice, an array, the keys of a map, or an interface.
func (d Decoder) elements(v reflect.Value, payload []byte) error {
	inner := NewDecoder(payload)
	inner.nested = d.nested + 1
	switch {
	case v.Kind() == reflect.Interface && v.NumMethod() == 0:
		var set Set
		err := inner.list(reflect.ValueOf(&set).Elem())
		v.Set(reflect.ValueOf(set))
		return err
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		return inner.list(v)
	case v.Kind() == reflect.Map && (v.Type().Elem() == reflect.TypeFor[struct{}]() || v.Type().Elem().Kind() == reflect.Bool):
		return inner.keys(v)
	}
	return fmt.Errorf("a set does not fit %s", v.Type())
}

// keys reads an array into the keys of a map.
func (d Decoder) keys(v reflect.Value) error {
	count, err := d.DecodeArrayLen()
	if err != nil {
		return err
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), min(count, 1024)))
	there := reflect.New(v.Type().Elem()).Elem()
	if there.Kind() == reflect.Bool {
		there.SetBool(true)
	}
	for range count {
		key := reflect.New(v.Type().Key()).Elem()
		if err := d.Into(key); err != nil {
			return err
		}
		if !key.Comparable() {
			return fmt.Errorf("%v (%T) cannot be a key in Go", key, key.Interface())
		}
		v.SetMapIndex(key, there)
	}
	return nil
}

// fromText reads a value of ours from its text, which is how programs without extension types send it.
func fromText(v reflect.Value, text string) error {
	var value any
	var err error
	switch v.Type() {
	case decimalType:
		value = Decimal(text)
		if !decimalForm.MatchString(text) {
			err = fmt.Errorf("%.40q is not a decimal number", text)
		}
	case uuidType:
		value, err = ParseUUID(text)
	case dateType:
		value, err = parseDate(text)
	case timesType:
		value, err = parseTime(text)
	default:
		return fmt.Errorf("a text does not fit %s", v.Type())
	}
	if err == nil {
		v.Set(reflect.ValueOf(value))
	}
	return err
}

// mayBeText reports whether the next value is a text for a type of ours that has one.
func mayBeText(t reflect.Type, code byte) bool {
	return msgpcode.IsString(code) && (t == decimalType || t == uuidType || t == dateType || t == timesType)
}
