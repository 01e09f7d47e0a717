package wire

import (
	"slices"
	"strings"
)

// WithExpiry is the task in data, in either language, with the header expires; its other bytes are copied.
func WithExpiry(data []byte, expires int64) ([]byte, error) {
	path, _, _ := Peek(data)
	absent := [][]byte{{0xc0}} // what stands for a payload if there is none
	if strings.Contains(path, Separator) {
		absent = [][]byte{{0x90}, {0x80}, {0x00}} // args, kwargs and retry
	}
	whole, _ := HeadAt(data, 0)
	count, begin := 1, 0 // a bare path
	if whole.Kind == KindArray {
		count, begin = whole.Values, whole.Body
	}
	fields, at := 1+len(absent), begin
	for range min(count, fields) {
		at, _ = Skip(data, at)
	}
	headers := MapHead(0)
	if count > fields {
		if h, _ := HeadAt(data, at); h.Kind == KindMap {
			end, _ := Skip(data, at)
			headers = data[at:end]
		}
	}
	changed, err := changeHeaders(headers, []Header{{"expires", expires}})
	missing := slices.Concat(absent[min(count, fields)-1:]...)
	return slices.Concat([]byte{0x90 | byte(fields+1)}, data[begin:at], missing, changed), err
}
