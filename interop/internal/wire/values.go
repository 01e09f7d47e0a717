package wire

import (
	"bytes"
	"encoding"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const usualSize = 32 // bytes of a value that is packed

// Raw is a value that is MessagePack already.
type Raw = msgpack.RawMessage

// Encode packs a value as the other producers do: integers as short as they get, structs as arrays or as maps.
func Encode(value any, structsAsArrays bool) ([]byte, error) {
	if data, ok := appendSimple(make([]byte, 0, usualSize), value); ok {
		return data, nil
	}
	if err := packable(value, math.MaxInt); err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	if err := encodeTo(&buffer, value, structsAsArrays); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func encodeTo(buffer io.Writer, value any, structsAsArrays bool) error {
	encoder := msgpack.NewEncoder(buffer)
	encoder.UseCompactInts(true)
	encoder.UseArrayEncodedStructs(structsAsArrays)
	return encoder.Encode(value)
}

// EncodeWithin is encode for a value that shall have most bytes. If it has more, they are not kept, and only counted; errMany if it has
// more than twice as many.
func EncodeWithin(value any, most int) (packed []byte, size int, err error) {
	if err := packable(value, most); err != nil {
		return nil, 0, err
	}
	buffer := bounded{most: most}
	if err := encodeTo(&buffer, value, false); err != nil {
		return nil, 0, err
	}
	return buffer.kept.Bytes(), buffer.size, nil
}

// bounded is a buffer that has a bound.
type bounded struct {
	kept       bytes.Buffer
	size, most int
}

func (b *bounded) Write(data []byte) (int, error) {
	b.size += len(data)
	switch {
	case b.size > 2*b.most:
		return 0, ErrMany
	case b.size > b.most:
		b.kept = bytes.Buffer{}
	default:
		b.kept.Write(data)
	}
	return len(data), nil
}

// Decoder reads arguments into Go values. The library's own decoding lets a number that is too large for its variable wrap
// around; here that is an error, as is a fraction for an integer.
type Decoder struct {
	*msgpack.Decoder
	data   []byte
	reader *bytes.Reader // of data; the library reads from it without a buffer of its own
	nested int           // the sets that data is in
}

func NewDecoder(data []byte) Decoder {
	reader := bytes.NewReader(data)
	return Decoder{msgpack.NewDecoder(reader), data, reader, 0}
}

var OwnDecoding = []reflect.Type{
	reflect.TypeFor[msgpack.CustomDecoder](),
	reflect.TypeFor[msgpack.Unmarshaler](),
	reflect.TypeFor[encoding.BinaryUnmarshaler](),
	reflect.TypeFor[encoding.TextUnmarshaler](),
}

// Into reads the next value into v, which is addressable and zero. nil leaves it so.
func (d Decoder) Into(v reflect.Value) error {
	code, err := d.PeekCode()
	if err != nil {
		return err
	}
	if code == msgpcode.Nil {
		return d.Skip()
	}
	if msgpcode.IsExt(code) {
		if done, err := d.extended(v); done {
			return err
		}
	}
	if mayBeText(v.Type(), code) {
		text, err := d.DecodeString()
		if err != nil {
			return err
		}
		return fromText(v, text)
	}
	for _, own := range OwnDecoding {
		if v.Addr().Type().Implements(own) {
			return d.DecodeValue(v)
		}
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return d.integer(v)
	case reflect.Float32, reflect.Float64:
		n, err := d.DecodeFloat64() // Python knows no others
		v.SetFloat(n)
		return err
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.Into(v.Elem())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() != reflect.Uint8 || msgpcode.IsFixedArray(code) || code == msgpcode.Array16 || code == msgpcode.Array32 {
			return d.list(v)
		}
	case reflect.Map:
		return d.mapping(v)
	case reflect.Struct:
		if fields := plainFields(v.Type()); fields != nil {
			return d.structure(v, fields)
		}
	case reflect.Interface:
		if v.NumMethod() == 0 {
			return d.whatever(v)
		}
	}
	return d.DecodeValue(v)
}

// whatever reads a value of any type into an interface.
func (d Decoder) whatever(v reflect.Value) error {
	value, err := d.Anything()
	if err == nil && value != nil {
		v.Set(reflect.ValueOf(value))
	}
	return err
}

func (d Decoder) integer(v reflect.Value) error {
	value, err := d.DecodeInterfaceLoose()
	if err != nil {
		return err
	}
	fits := false
	switch n := value.(type) {
	case int64:
		fits = setInt(v, n)
	case uint64:
		fits = setUint(v, n)
	case float64: // Python's 3.0
		if n == math.Trunc(n) && n >= -1<<53 && n <= 1<<53 {
			fits = setInt(v, int64(n))
		}
	}
	if !fits {
		return fmt.Errorf("%v (%T) does not fit %s", value, value, v.Type())
	}
	return nil
}

func setInt(v reflect.Value, n int64) bool {
	if v.CanInt() {
		v.SetInt(n)
		return v.Int() == n
	}
	return n >= 0 && setUint(v, uint64(n))
}

func setUint(v reflect.Value, n uint64) bool {
	if v.CanInt() {
		return n <= math.MaxInt64 && setInt(v, int64(n))
	}
	v.SetUint(n)
	return v.Uint() == n
}

func (d Decoder) list(v reflect.Value) error {
	count, err := d.DecodeArrayLen()
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), 0, min(count, 1024)))
	} else if count > v.Len() {
		return fmt.Errorf("%d values do not fit %s", count, v.Type())
	}
	for i := range count {
		if v.Kind() == reflect.Slice {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		}
		if err := d.Into(v.Index(i)); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

func (d Decoder) mapping(v reflect.Value) error {
	count, err := d.DecodeMapLen()
	if err != nil {
		return err
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), min(count, 1024)))
	for range count {
		key := reflect.New(v.Type().Key()).Elem()
		if err := d.Into(key); err != nil {
			return fmt.Errorf("a key: %w", err)
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if err := d.Into(value); err != nil {
			return fmt.Errorf("[%v]: %w", key, err)
		}
		if !key.Comparable() {
			return fmt.Errorf("%v (%T) cannot be a key in Go", key, key.Interface())
		}
		v.SetMapIndex(key, value)
	}
	return nil
}

// structure reads an array of the fields in order, which may be shorter or longer, or a map by their names.
func (d Decoder) structure(v reflect.Value, fields []field) error {
	code, err := d.PeekCode()
	if err != nil {
		return err
	}
	if msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32 {
		return d.named(v, fields)
	}
	count, err := d.DecodeArrayLen()
	for i := 0; i < count && err == nil; i++ {
		if i < len(fields) {
			if err = d.Into(v.Field(fields[i].index)); err != nil {
				err = fmt.Errorf("%s: %w", fields[i].name, err)
			}
		} else {
			err = d.Skip()
		}
	}
	return err
}

func (d Decoder) named(v reflect.Value, fields []field) error {
	count, err := d.DecodeMapLen()
	for i := 0; i < count && err == nil; i++ {
		var key any
		if key, err = d.Anything(); err != nil {
			return err
		}
		known := false
		for _, f := range fields {
			if known = f.name == key; known {
				err = d.Into(v.Field(f.index))
				break
			}
		}
		if !known {
			err = d.Skip()
		}
	}
	return err
}

// Anything reads a value that nobody said the type of: nil, bool, int64 (or uint64 if it is larger), float32, float64, string,
// []byte, time.Time, []any, map[string]any (or map[any]any if a key is not a string), and the types of types.go.
func (d Decoder) Anything() (any, error) {
	code, err := d.PeekCode()
	switch {
	case err != nil:
		return nil, err
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16 || code == msgpcode.Array32:
		list := []any{}
		err := d.list(reflect.ValueOf(&list).Elem())
		return list, err
	case msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32:
		return d.anyMap()
	case msgpcode.IsExt(code):
		return d.anyExtension()
	case code == msgpcode.Float || code == msgpcode.Double || msgpcode.IsString(code) || msgpcode.IsBin(code):
		// DecodeInterfaceLoose would make a string of bytes
		return d.DecodeInterface()
	}
	value, err := d.DecodeInterfaceLoose()
	if n, ok := value.(uint64); ok && n <= math.MaxInt64 {
		return int64(n), nil
	}
	return value, err
}

func (d Decoder) anyExtension() (any, error) {
	var value any
	if done, err := d.extended(reflect.ValueOf(&value).Elem()); done {
		return value, err
	}
	code, _, _, _ := d.extension()
	value, err := d.DecodeInterface() // an instant, or what the application has taught the library
	if err != nil {
		err = fmt.Errorf("extension type %d: %w", code, err)
	}
	return value, err
}

func (d Decoder) anyMap() (any, error) {
	loose := map[any]any{}
	if err := d.mapping(reflect.ValueOf(&loose).Elem()); err != nil {
		return nil, err
	}
	named := make(map[string]any, len(loose))
	for key, value := range loose {
		name, ok := key.(string)
		if !ok {
			return loose, nil
		}
		named[name] = value
	}
	return named, nil
}

type field struct {
	name  string
	index int
}

// plainFields are the fields of a struct by the rules of the library; nil for a struct with embedded fields or options in its
// tags, which the library decodes itself.
func plainFields(t reflect.Type) []field {
	if t == reflect.TypeFor[time.Time]() {
		return nil
	}
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("msgpack")
		if f.Anonymous || f.Name == "_msgpack" || strings.ContainsRune(tag, ',') && !strings.HasSuffix(tag, ",omitempty") {
			return nil
		}
		if tag = strings.TrimSuffix(tag, ",omitempty"); tag == "-" || !f.IsExported() {
			continue
		}
		if tag == "" {
			tag = f.Name
		}
		fields = append(fields, field{tag, i})
	}
	return fields
}
