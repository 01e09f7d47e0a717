package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Name is a header that we know.
type Name uint8

// The headers: see docs/protocol.md.
const (
	ID Name = iota
	Enqueued
	UID
	Retry
	Backoff
	RetryOn
	GiveUpOn
	Attempt
	Error
	Timeout
	HardTimeout
	Expires
	ResultTTL
	Unique
	Group
	Concurrency
	Metadata
	Flow
	TraceParent
	TraceState
	unknown
)

var names = map[string]Name{
	"id": ID, "enqueued": Enqueued, "uid": UID, "retry": Retry, "backoff": Backoff, "retry_on": RetryOn, "give_up_on": GiveUpOn,
	"attempt": Attempt, "error": Error, "timeout": Timeout, "hard_timeout": HardTimeout, "expires": Expires, "result_ttl": ResultTTL,
	"unique": Unique, "group": Group, "concurrency": Concurrency, "metadata": Metadata,
	"flow": Flow, "traceparent": TraceParent, "tracestate": TraceState,
}

// Headers are those of a task. They are found at once, and each is decoded when it is asked for: most of them matter only when something
// goes wrong.
type Headers struct {
	data []byte // the task
	at   int    // where the map of them is
	some bool
	// Where the values are of those that we know; 0 for one that is not there. Of two of one name the last counts that may be a header.
	values [unknown]int32
}

// HeadersAt are the headers in the map at a place of a task, none if there is no map, and one of them that must be understood.
func HeadersAt(data []byte, at int) (headers Headers, strange string) {
	h, _ := HeadAt(data, at)
	if h.Kind != KindMap || h.Values == 0 {
		return Headers{}, ""
	}
	headers = Headers{data: data, at: at, some: true}
	at = h.Body
	for range h.Values / 2 {
		head, _ := HeadAt(data, at)
		if head.Values > 0 {
			at, _ = Skip(data, at)
		} else {
			at = head.Body + head.Size
		}
		if head.Kind == KindString {
			name := data[head.Body:at]
			if len(name) > 0 && name[0] == '!' {
				strange = string(name)
			}
			if known, ok := names[string(name)]; ok && (headers.values[known] == 0 || headerAt(data, at, known) != nil) {
				headers.values[known] = int32(at) //nolint:gosec // Redis has no strings that are longer
			}
		}
		at, _ = Skip(data, at)
	}
	return headers, strange
}

// Some reports whether there is any header.
func (h *Headers) Some() bool { return h.some }

// Has reports whether there is a header of this name, whatever its value.
func (h *Headers) Has(name Name) bool { return h.values[name] != 0 }

// Value is what a header of this name consists of (see Scalars), or a map[string]string for Metadata; nil if there is none, or if no
// header of this name may have such a value.
func (h *Headers) Value(name Name) any {
	if h.values[name] == 0 {
		return nil
	}
	return headerAt(h.data, int(h.values[name]), name)
}

// Number is a header that is a whole number, 0 if it is not there.
func (h *Headers) Number(name Name) int64 {
	at := int(h.values[name])
	if at == 0 {
		return 0
	}
	n, _ := integerAt(h.data, at)
	return n
}

// Text is a header that is a text; ok is false if it is not there.
func (h *Headers) Text(name Name) (text string, ok bool) {
	at := int(h.values[name])
	if at == 0 {
		return "", false
	}
	head, err := HeadAt(h.data, at)
	if err != nil || head.Kind != KindString {
		return "", false
	}
	return string(h.data[head.Body : head.Body+head.Size]), true
}

// Texts is a header that is an array of texts; nil if it is not there.
func (h *Headers) Texts(name Name) []string {
	list, ok := h.Value(name).([]any)
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

// All are all headers by their names, also those that we do not know, but for values that no header of ours may have; nil for none.
func (h *Headers) All() map[string]any {
	if !h.some {
		return nil
	}
	whole, _ := HeadAt(h.data, h.at)
	found, at := map[string]any{}, whole.Body
	for range whole.Values / 2 {
		head, _ := HeadAt(h.data, at)
		middle, _ := Skip(h.data, at)
		if head.Kind == KindString {
			name := string(h.data[head.Body:middle])
			known, ok := names[name]
			if !ok {
				known = unknown
			}
			if value := headerAt(h.data, middle, known); value != nil {
				found[name] = value
			}
		}
		at, _ = Skip(h.data, middle)
	}
	return found
}

// headerAt is the value of a header at a place; nil for one that no header of this name may have.
func headerAt(data []byte, at int, name Name) any {
	if name != Metadata {
		return Scalars(data, at)
	}
	if texts := textsByName(data, at); texts != nil {
		return texts
	}
	return nil
}

// textsByName reads a map of texts by name; nil for all else.
func textsByName(data []byte, at int) map[string]string {
	h, err := HeadAt(data, at)
	if err != nil || h.Kind != KindMap {
		return nil
	}
	found := make(map[string]string, min(h.Values/2, mostHeaders))
	at = h.Body
	for range h.Values / 2 {
		name, isName := scalar(data, at).(string)
		at, _ = Skip(data, at)
		text, isText := scalar(data, at).(string)
		at, _ = Skip(data, at)
		if !isName || !isText {
			return nil
		}
		found[name] = text
	}
	return found
}

const mostHeaders = 16 // values in a header for which there is room at once

// Scalars reads what headers consist of: an int64, a float64, a string, a bool, or a []any of these; nil for all else. It decodes
// nothing that could be large, deep, or of a type that somebody has registered.
func Scalars(data []byte, at int) any {
	h, err := HeadAt(data, at)
	if err != nil || h.Kind != KindArray {
		return scalar(data, at)
	}
	list := make([]any, 0, min(h.Values, mostHeaders))
	at = h.Body
	for range h.Values {
		value := scalar(data, at)
		if value == nil {
			return nil
		}
		list = append(list, value)
		at, _ = Skip(data, at)
	}
	return list
}

// scalar reads an int64 (a larger number is the largest of them), a float64, a string or a bool; nil for all else.
func scalar(data []byte, at int) any {
	h, err := HeadAt(data, at)
	if err != nil {
		return nil
	}
	body := data[h.Body : h.Body+h.Size]
	switch code := data[at]; {
	case h.Kind == KindString:
		return string(body)
	case code == msgpcode.True || code == msgpcode.False:
		return code == msgpcode.True
	case code == msgpcode.Float:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(body)))
	case code == msgpcode.Double:
		return math.Float64frombits(binary.BigEndian.Uint64(body))
	case h.Kind == kindInt:
		return integer(code, body)
	}
	return nil
}

// integerAt reads an integer (a larger number than an int64 is the largest of them); ok is false for all else.
func integerAt(data []byte, at int) (n int64, ok bool) {
	h, err := HeadAt(data, at)
	if err != nil || h.Kind != kindInt {
		return 0, false
	}
	return integer(data[at], data[h.Body:h.Body+h.Size]), true
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

// PackHeaders is a map of these names and values, in this order.
func PackHeaders(headers []Header) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := msgpack.NewEncoder(&buffer)
	encoder.UseCompactInts(true)
	err := encoder.EncodeMapLen(len(headers))
	for _, each := range headers {
		if err == nil {
			err = encoder.EncodeString(each.Name)
		}
		if err == nil {
			err = encoder.Encode(each.Value)
		}
	}
	return buffer.Bytes(), err
}

// WithHeaders is the Go task in data, which has headers, with some of them changed or added. All else keeps its bytes.
func WithHeaders(data []byte, changes ...Header) ([]byte, error) {
	first, _ := HeadAt(data, 0)
	begin := first.Body
	for range 2 {
		begin, _ = Skip(data, begin)
	}
	end, _ := Skip(data, begin)
	changed, err := changeHeaders(data[begin:end], changes)
	return slices.Concat(data[:begin], changed, data[end:]), err
}

// changeHeaders is a map of headers with some of them changed or added; the others keep their bytes.
func changeHeaders(data []byte, changes []Header) ([]byte, error) {
	old, _ := HeadAt(data, 0)
	var pairs []byte
	count, at := old.Values/2, old.Body
	done := make([]bool, len(changes))
	for range old.Values / 2 {
		name, _ := HeadAt(data, at)
		middle, _ := Skip(data, at)
		next, _ := Skip(data, middle)
		value := data[middle:next]
		text := string(data[name.Body : name.Body+name.Size])
		// Each of several headers of one name, or the one that is read would stay as it was.
		if i := slices.IndexFunc(changes, func(c Header) bool { return name.Kind == KindString && c.Name == text }); i >= 0 {
			changed, err := Encode(changes[i].Value, false)
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
		for _, part := range []any{change.Name, change.Value} {
			packed, err := Encode(part, false)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, packed...)
		}
		count++
	}
	return append(MapHead(count), pairs...), nil
}

// MapHead is how a map of so many pairs begins.
func MapHead(count int) []byte {
	if count < 16 {
		return []byte{0x80 | byte(count)}
	}
	return []byte{0xdf, byte(count >> 24), byte(count >> 16), byte(count >> 8), byte(count)}
}

// Header is one of a task's headers.
type Header struct {
	Name  string
	Value any
}
