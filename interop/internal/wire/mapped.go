package wire

import (
	"errors"
	"slices"
	"strings"
)

var errNoTemplate = errors.New("delayed: these bytes are no task with headers")

// Mapped is the call that a map of a workflow makes with one element, which is its first argument: the task in data, of either
// language, under another id.
func Mapped(data []byte, id string, enqueued int64, element []byte) ([]byte, error) {
	whole, err := HeadAt(data, 0)
	if err != nil || whole.Kind != KindArray || whole.Values < 3 {
		return nil, errNoTemplate
	}
	parts, at := make([][]byte, whole.Values), whole.Body
	for i := range parts {
		end, err := Skip(data, at)
		if err != nil {
			return nil, err
		}
		parts[i], at = data[at:end], end
	}
	path, _, _ := Peek(data)
	last := 2
	if strings.Contains(path, Separator) {
		last = 4
		parts[1] = prepended(parts[1], element)
	} else {
		head, _ := HeadAt(parts[1], 0)
		payload := parts[1][head.Body : head.Body+head.Size]
		if empty, _ := HeadAt(payload, 0); len(payload) > 0 && empty.Kind != KindNil && (empty.Kind != KindArray || empty.Values > 0) {
			element = prepended(payload, element)
		} // else it is the only argument, which stands there bare
		parts[1] = AppendBytes(nil, element)
	}
	if len(parts) <= last {
		return nil, errNoTemplate
	}
	parts[last], err = changeHeaders(parts[last], []Header{{"id", id}, {"enqueued", enqueued}})
	return append(AppendArray(nil, len(parts)), slices.Concat(parts...)...), err
}

// prepended is an array with one element more, at its head; what is no array is taken for none, or for one element.
func prepended(array, element []byte) []byte {
	head, err := HeadAt(array, 0)
	count, rest := 1, array
	switch {
	case err != nil || head.Kind == KindNil:
		count, rest = 0, nil
	case head.Kind == KindArray:
		count, rest = head.Values, array[head.Body:]
	}
	return slices.Concat(AppendArray(nil, count+1), element, rest)
}

// Elements are the elements of an array, each as it is packed; ok is false for what is none.
func Elements(array []byte) (found [][]byte, ok bool) {
	head, err := HeadAt(array, 0)
	if err != nil || head.Kind != KindArray {
		return nil, false
	}
	found = make([][]byte, 0, min(head.Values, len(array)))
	at := head.Body
	for range head.Values {
		end, err := Skip(array, at)
		if err != nil {
			return nil, false
		}
		found, at = append(found, array[at:end]), end
	}
	return found, true
}
