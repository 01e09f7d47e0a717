package delayed

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// headersAt are the headers in the map at a place of a task, nil if there are none, and one of them that must be understood. A value
// that no header of ours may have is as if it were not there: see scalars.
func headersAt(data []byte, at int) (headers map[string]any, strange string) {
	h, _ := headAt(data, at)
	if h.kind != kindMap {
		return nil, ""
	}
	at = h.body
	for range h.values / 2 {
		name, _ := headAt(data, at)
		middle, _ := skip(data, at)
		end, _ := skip(data, middle)
		if name.kind == kindString {
			text := string(data[name.body : name.body+name.size])
			if len(text) > 0 && text[0] == '!' {
				strange = text
			}
			if value := scalars(data, middle); value != nil {
				if headers == nil {
					headers = make(map[string]any, min(h.values/2, mostHeaders))
				}
				headers[text] = value
			}
		}
		at = end
	}
	return headers, strange
}

const mostHeaders = 16 // for which there is room at once

// scalars reads what headers consist of: an int64, a float64, a string, a bool, or a []any of these; nil for all else. It decodes
// nothing that could be large, deep, or of a type that somebody has registered.
func scalars(data []byte, at int) any {
	h, err := headAt(data, at)
	if err != nil || h.kind != kindArray {
		return scalar(data, at)
	}
	list := make([]any, 0, min(h.values, mostHeaders))
	at = h.body
	for range h.values {
		value := scalar(data, at)
		if value == nil {
			return nil
		}
		list = append(list, value)
		at, _ = skip(data, at)
	}
	return list
}

// scalar reads an int64 (a larger number is the largest of them), a float64, a string or a bool; nil for all else.
func scalar(data []byte, at int) any {
	h, err := headAt(data, at)
	if err != nil {
		return nil
	}
	body := data[h.body : h.body+h.size]
	switch code := data[at]; {
	case h.kind == kindString:
		return string(body)
	case code == msgpcode.True || code == msgpcode.False:
		return code == msgpcode.True
	case code == msgpcode.Float:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(body)))
	case code == msgpcode.Double:
		return math.Float64frombits(binary.BigEndian.Uint64(body))
	case h.kind == kindInt:
		return integer(code, body)
	}
	return nil
}

// integer is the number that a code and its body mean.
func integer(code byte, body []byte) int64 {
	if len(body) == 0 {
		return int64(int8(code))
	}
	n := uint64(0)
	for _, b := range body {
		n = n<<8 | uint64(b)
	}
	if code >= msgpcode.Int8 { // in two's complement
		unused := 64 - 8*len(body)
		return int64(n<<unused) >> unused
	}
	return int64(min(n, math.MaxInt64))
}

// wholeNumber is a header that is a whole number, 0 if it is not there.
func wholeNumber(headers map[string]any, name string) int64 {
	n, _ := headers[name].(int64)
	return n
}

// texts is a header that is an array of texts; nil if it is not there.
func texts(headers map[string]any, name string) []string {
	list, ok := headers[name].([]any)
	if !ok {
		return nil
	}
	found := make([]string, len(list))
	for i, each := range list {
		if found[i], ok = each.(string); !ok {
			return nil
		}
	}
	return found
}

// packHeaders is a map of these names and values, in this order.
func packHeaders(headers []header) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := msgpack.NewEncoder(&buffer)
	encoder.UseCompactInts(true)
	err := encoder.EncodeMapLen(len(headers))
	for _, each := range headers {
		if err == nil {
			err = encoder.EncodeString(each.name)
		}
		if err == nil {
			err = encoder.Encode(each.value)
		}
	}
	return buffer.Bytes(), err
}

// withHeaders is the Go task in data, which has headers, with some of them changed or added. All else keeps its bytes.
func withHeaders(data []byte, changes ...header) ([]byte, error) {
	first, _ := headAt(data, 0)
	begin := first.body
	for range 2 {
		begin, _ = skip(data, begin)
	}
	end, _ := skip(data, begin)
	changed, err := changeHeaders(data[begin:end], changes)
	return slices.Concat(data[:begin], changed, data[end:]), err
}

// changeHeaders is a map of headers with some of them changed or added; the others keep their bytes.
func changeHeaders(data []byte, changes []header) ([]byte, error) {
	old, _ := headAt(data, 0)
	var pairs []byte
	count, at := old.values/2, old.body
	done := make([]bool, len(changes))
	for range old.values / 2 {
		name, _ := headAt(data, at)
		middle, _ := skip(data, at)
		next, _ := skip(data, middle)
		value := data[middle:next]
		text := string(data[name.body : name.body+name.size])
		// Each of several headers of one name, or the one that is read would stay as it was.
		if i := slices.IndexFunc(changes, func(c header) bool { return name.kind == kindString && c.name == text }); i >= 0 {
			changed, err := encode(changes[i].value, false)
			if err != nil {
				return nil, err
			}
			value, done[i] = changed, true
		}
		pairs = append(append(pairs, data[at:middle]...), value...)
		at = next
	}
	for i, change := range changes {
		if done[i] {
			continue
		}
		for _, part := range []any{change.name, change.value} {
			packed, err := encode(part, false)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, packed...)
		}
		count++
	}
	return append(mapHead(count), pairs...), nil
}

// mapHead is how a map of so many pairs begins.
func mapHead(count int) []byte {
	if count < 16 {
		return []byte{0x80 | byte(count)}
	}
	return []byte{0xdf, byte(count >> 24), byte(count >> 16), byte(count >> 8), byte(count)}
}

// header is one of a task's headers.
type header struct {
	name  string
	value any
}
