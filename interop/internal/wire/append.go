package wire

import (
	"encoding/binary"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// What is appended here has the same bytes as what the library writes, which costs more than all the rest of a small task.

// AppendNil appends nothing, as a value.
func AppendNil(b []byte) []byte { return append(b, msgpcode.Nil) }

// AppendBool appends a truth value.
func AppendBool(b []byte, value bool) []byte {
	if value {
		return append(b, msgpcode.True)
	}
	return append(b, msgpcode.False)
}

// AppendUint appends a number, as short as it gets.
func AppendUint(b []byte, n uint64) []byte {
	switch {
	case n < 0x80:
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, msgpcode.Uint8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, msgpcode.Uint16), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, msgpcode.Uint32), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, msgpcode.Uint64), n)
}

// AppendInt appends a number, as short as it gets.
func AppendInt(b []byte, n int64) []byte {
	switch {
	case n >= 0:
		return AppendUint(b, uint64(n))
	case n >= -32:
		return append(b, byte(n))
	case n >= math.MinInt8:
		return append(b, msgpcode.Int8, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, msgpcode.Int16), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, msgpcode.Int32), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, msgpcode.Int64), uint64(n))
}

// AppendFloat appends a number.
func AppendFloat(b []byte, value float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, msgpcode.Double), math.Float64bits(value))
}

// AppendString appends a text.
func AppendString(b []byte, text string) []byte {
	if len(text) < 32 {
		return append(append(b, msgpcode.FixedStrLow|byte(len(text))), text...)
	}
	return append(appendLength(b, msgpcode.Str8, msgpcode.Str16, msgpcode.Str32, len(text)), text...)
}

// AppendBytes appends bytes.
func AppendBytes(b, data []byte) []byte {
	return append(appendLength(b, msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32, len(data)), data...)
}

// AppendArray appends the beginning of an array of so many values.
func AppendArray(b []byte, count int) []byte {
	if count < 16 {
		return append(b, msgpcode.FixedArrayLow|byte(count))
	}
	return appendLength(b, 0, msgpcode.Array16, msgpcode.Array32, count)
}

// AppendMap appends the beginning of a map of so many pairs.
func AppendMap(b []byte, count int) []byte {
	if count < 16 {
		return append(b, msgpcode.FixedMapLow|byte(count))
	}
	return appendLength(b, 0, msgpcode.Map16, msgpcode.Map32, count)
}

// appendLength appends a length behind the code for as many bytes as it has; without a code for one byte, it has at least two.
func appendLength(b []byte, one, two, four byte, length int) []byte {
	switch {
	case length <= math.MaxUint8 && one != 0:
		return append(b, one, byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, two), uint16(length))
	}
	return binary.BigEndian.AppendUint32(append(b, four), uint32(length)) //nolint:gosec // Redis has no values that are longer
}

// appendSimple appends a value of the types that nearly all are of; false for others, which are the library's.
func appendSimple(b []byte, value any) ([]byte, bool) {
	switch value := value.(type) {
	case nil:
		return AppendNil(b), true
	case bool:
		return AppendBool(b, value), true
	case int:
		return AppendInt(b, int64(value)), true
	case int64:
		return AppendInt(b, value), true
	case uint64:
		return AppendUint(b, value), true
	case float64:
		return AppendFloat(b, value), true
	case string:
		return AppendString(b, value), true
	case []byte:
		if value != nil {
			return AppendBytes(b, value), true
		}
	case []any:
		if value != nil {
			return appendAll(b, value)
		}
	}
	return b, false
}

// appendAll is appendSimple for an array.
func appendAll(b []byte, list []any) ([]byte, bool) {
	b = AppendArray(b, len(list))
	ok := true
	for _, each := range list {
		if inner, nested := each.([]any); nested && inner != nil { // the library has a bound for what is nested
			return b, false
		}
		if b, ok = appendSimple(b, each); !ok {
			return b, false
		}
	}
	return b, true
}
