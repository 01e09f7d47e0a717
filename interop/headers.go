package delayed

import (
	"bytes"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// readHeaders reads the map of headers at a place of a task, nil if it is empty. A header whose name begins with `!` must be
// understood, and none is so far.
func readHeaders(data []byte, at int) (map[string]any, error) {
	if h, _ := headAt(data, at); h.kind != kindMap {
		return nil, unrunnable(Undecodable, "not a task: expected a map of headers after the payload, found %.100x", data[at:])
	}
	headers, strange := headersAt(data, at)
	if strange != "" {
		return nil, unrunnable(UnknownHeader, "this worker is too old for the header %q: upgrade it", strange)
	}
	return headers, nil
}

// headersAt are the headers in the map at a place of a task, nil if there are none, and one of them that must be understood. What cannot
// be read of them is as if it were not there.
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
			if value, err := newDecoder(data[middle:end]).anything(); err == nil {
				if headers == nil {
					headers = make(map[string]any, h.values/2)
				}
				headers[text] = value
			}
		}
		at = end
	}
	return headers, strange
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
	for range old.values / 2 {
		name, _ := headAt(data, at)
		middle, _ := skip(data, at)
		next, _ := skip(data, middle)
		value := data[middle:next]
		text := string(data[name.body : name.body+name.size])
		if i := slices.IndexFunc(changes, func(c header) bool { return name.kind == kindString && c.name == text }); i >= 0 {
			changed, err := encode(changes[i].value, false)
			if err != nil {
				return nil, err
			}
			value, changes = changed, slices.Delete(slices.Clone(changes), i, i+1)
		}
		pairs = append(append(pairs, data[at:middle]...), value...)
		at = next
	}
	for _, change := range changes {
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
