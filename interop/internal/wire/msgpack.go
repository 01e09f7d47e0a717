// Package wire reads and writes the bytes of tasks: MessagePack, headers and values.
package wire

import (
	"encoding/binary"
	"errors"
	"math"
)

const deepest = 512 // levels of nesting: without a bound, a task of 1 MiB could exhaust the stack, which no recover catches

var (
	errShort = errors.New("not MessagePack: it ends too early")
	errDeep  = errors.New("not MessagePack that we read: nested too deep")
	errCode  = errors.New("not MessagePack: the byte c1 has no meaning")
)

type Kind uint8

const (
	kindOther Kind = iota
	KindNil
	kindInt
	KindString
	KindBytes
	KindArray
	KindMap
)

// Head is the beginning of one value: its kind, where its body begins, the bytes of its body, and how many values follow in it.
type Head struct {
	Kind   Kind
	Body   int
	Size   int
	Values int
}

// fixed are the codes c0 … df: their kind, the bytes of the length that follows them, or the bytes of the body.
var fixed = [0x20]struct {
	kind   Kind
	length int
	body   int
}{
	0x00: {KindNil, 0, 0}, 0x02: {kindOther, 0, 0}, 0x03: {kindOther, 0, 0},
	0x04: {KindBytes, 1, 0}, 0x05: {KindBytes, 2, 0}, 0x06: {KindBytes, 4, 0},
	0x07: {kindOther, 1, 1}, 0x08: {kindOther, 2, 1}, 0x09: {kindOther, 4, 1}, // ext: a type, then the body
	0x0a: {kindOther, 0, 4}, 0x0b: {kindOther, 0, 8},
	0x0c: {kindInt, 0, 1}, 0x0d: {kindInt, 0, 2}, 0x0e: {kindInt, 0, 4}, 0x0f: {kindInt, 0, 8},
	0x10: {kindInt, 0, 1}, 0x11: {kindInt, 0, 2}, 0x12: {kindInt, 0, 4}, 0x13: {kindInt, 0, 8},
	0x14: {kindOther, 0, 2}, 0x15: {kindOther, 0, 3}, 0x16: {kindOther, 0, 5}, 0x17: {kindOther, 0, 9}, 0x18: {kindOther, 0, 17},
	0x19: {KindString, 1, 0}, 0x1a: {KindString, 2, 0}, 0x1b: {KindString, 4, 0},
	0x1c: {KindArray, 2, 0}, 0x1d: {KindArray, 4, 0}, 0x1e: {KindMap, 2, 0}, 0x1f: {KindMap, 4, 0},
}

// HeadAt reads the beginning of the value at pos, and makes sure that its body is there.
func HeadAt(data []byte, pos int) (Head, error) {
	if pos >= len(data) {
		return Head{}, errShort
	}
	h := Head{Body: pos + 1}
	switch code := data[pos]; {
	case code < 0x80 || code >= 0xe0:
		h.Kind = kindInt
	case code < 0x90:
		h.Kind, h.Values = KindMap, 2*int(code&0x0f)
	case code < 0xa0:
		h.Kind, h.Values = KindArray, int(code&0x0f)
	case code < 0xc0:
		h.Kind, h.Size = KindString, int(code&0x1f)
	case code == 0xc1:
		return Head{}, errCode
	default:
		entry := fixed[code-0xc0]
		h.Kind, h.Size = entry.kind, entry.body
		if entry.length > 0 {
			length, err := lengthAt(data, h.Body, entry.length)
			if err != nil {
				return Head{}, err
			}
			h.Body += entry.length
			switch entry.kind {
			case KindArray:
				h.Values = length
			case KindMap:
				h.Values = 2 * length
			default:
				h.Size += length
			}
		}
	}
	if h.Size > len(data)-h.Body || h.Values > len(data)-h.Body { // each value has at least one byte
		return Head{}, errShort
	}
	return h, nil
}

func lengthAt(data []byte, pos, size int) (int, error) {
	if size > len(data)-pos {
		return 0, errShort
	}
	switch size {
	case 1:
		return int(data[pos]), nil
	case 2:
		return int(binary.BigEndian.Uint16(data[pos:])), nil
	}
	length := binary.BigEndian.Uint32(data[pos:])
	if length > math.MaxInt32/2 { // Redis has no such strings, and twice that still fits an int
		return 0, errShort
	}
	return int(length), nil
}

// Skip is the position behind the value at pos.
func Skip(data []byte, pos int) (int, error) {
	h, err := HeadAt(data, pos)
	if err != nil {
		return 0, err
	}
	if h.Values == 0 { // nearly all
		return h.Body + h.Size, nil
	}
	return skipSeveral(data, h.Body, h.Values, 1)
}

// skipSeveral is the position behind count values, which are in so many others.
func skipSeveral(data []byte, pos, count, depth int) (int, error) {
	if depth == deepest {
		return 0, errDeep
	}
	for range count {
		h, err := HeadAt(data, pos)
		if err != nil {
			return 0, err
		}
		pos = h.Body + h.Size
		if h.Values > 0 {
			if pos, err = skipSeveral(data, pos, h.Values, depth+1); err != nil {
				return 0, err
			}
		}
	}
	return pos, nil
}
