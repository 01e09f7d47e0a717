package delayed

import (
	"slices"
	"strings"
)

// withExpiry is the task in data, in either language, with the header expires; its other bytes are copied.
func withExpiry(data []byte, expires int64) ([]byte, error) {
	path, _, _ := glance(data)
	absent := [][]byte{{0xc0}} // what stands for a payload if there is none
	if strings.Contains(path, separator) {
		absent = [][]byte{{0x90}, {0x80}, {0x00}} // args, kwargs and retry
	}
	whole, _ := headAt(data, 0)
	count, begin := 1, 0 // a bare path
	if whole.kind == kindArray {
		count, begin = whole.values, whole.body
	}
	fields, at := 1+len(absent), begin
	for range min(count, fields) {
		at, _ = skip(data, at)
	}
	headers := mapHead(0)
	if count > fields {
		if h, _ := headAt(data, at); h.kind == kindMap {
			end, _ := skip(data, at)
			headers = data[at:end]
		}
	}
	changed, err := changeHeaders(headers, []header{{"expires", expires}})
	missing := slices.Concat(absent[min(count, fields)-1:]...)
	return slices.Concat([]byte{0x90 | byte(fields+1)}, data[begin:at], missing, changed), err
}
