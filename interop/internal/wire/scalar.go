package wire

import (
	"encoding/binary"
	"math"
)

// Other stands for a value that ScalarAt does not read: an array, a map, or one of an extension type.
type Other struct{}

// ScalarAt is the value at pos, which is there as a whole: nil, a bool, int64, uint64, float64, string (also for a byte string), or Other.
func ScalarAt(data []byte, pos int) any {
	h, err := HeadAt(data, pos)
	if err != nil {
		return Other{}
	}
	code, body := data[pos], data[h.Body:h.Body+h.Size]
	switch {
	case h.Kind == KindNil:
		return nil
	case h.Kind == KindString || h.Kind == KindBytes:
		return string(body)
	case h.Kind == kindInt:
		return integerOf(code, body)
	case code == 0xc2 || code == 0xc3:
		return code == 0xc3
	case code == 0xca:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(body)))
	case code == 0xcb:
		return math.Float64frombits(binary.BigEndian.Uint64(body))
	}
	return Other{}
}

func integerOf(code byte, body []byte) any {
	switch code {
	case 0xcc:
		return int64(body[0])
	case 0xcd:
		return int64(binary.BigEndian.Uint16(body))
	case 0xce:
		return int64(binary.BigEndian.Uint32(body))
	case 0xcf:
		return binary.BigEndian.Uint64(body)
	case 0xd0:
		return int64(int8(body[0])) //nolint:gosec // the sign is in it
	case 0xd1:
		return int64(int16(binary.BigEndian.Uint16(body))) //nolint:gosec // likewise
	case 0xd2:
		return int64(int32(binary.BigEndian.Uint32(body))) //nolint:gosec // likewise
	case 0xd3:
		return int64(binary.BigEndian.Uint64(body)) //nolint:gosec // likewise
	}
	return int64(int8(code)) //nolint:gosec // likewise
}
