package wire

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func TestWhatIsAppendedHasTheBytesOfTheLibrary(t *testing.T) {
	values := []any{nil, true, false, 0.0, -1.5, math.Inf(1), "", []byte{}, []byte(nil), []any{}, []any(nil), []any{1, "a", nil, []byte("b")},
		[]any{[]any{1}, 2}, []any{map[string]int{"a": 1}}, uint64(math.MaxUint64)}
	for _, n := range []int64{0, 1, 31, 32, 33, 127, 128, 129, 255, 256, 1 << 15, 1<<16 - 1, 1 << 16, 1 << 31, 1<<32 - 1, 1 << 32, math.MaxInt64} {
		values = append(values, n, -n, -n-1, int(n), uint64(n)) //nolint:gosec // they are above 0
	}
	for _, size := range []int{1, 15, 16, 31, 32, 255, 256, 1<<16 - 1, 1 << 16} {
		values = append(values, strings.Repeat("x", size), make([]byte, size), make([]any, size))
	}
	for _, value := range values {
		var want bytes.Buffer
		if err := encodeTo(&want, value, true); err != nil {
			t.Fatal(err)
		}
		if got, err := Encode(value, true); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%.100v: %x, not %x (%v)", value, got[:min(len(got), 20)], want.Bytes()[:min(want.Len(), 20)], err)
		}
	}
	var library bytes.Buffer
	for _, count := range []int{0, 15, 16, 1 << 16} {
		library.Reset()
		some := make(map[int]bool, count)
		for i := range count {
			some[i] = true
		}
		if err := encodeTo(&library, some, true); err != nil {
			t.Fatal(err)
		}
		if head := AppendMap(nil, count); !bytes.HasPrefix(library.Bytes(), head) {
			t.Errorf("%d: %x", count, head)
		}
	}
}

// A value that is nested deeper than anybody reads is an error, however deep, and no overflow of the stack.
func TestSkipHasABound(t *testing.T) {
	for _, depth := range []int{1, deepest - 1, deepest, 1 << 20} {
		data := append(bytes.Repeat([]byte{0x91}, depth), 0xc0)
		end, err := Skip(data, 0)
		if fine := depth < deepest; fine != (err == nil) || fine && end != len(data) {
			t.Error(depth, end, err)
		}
	}
}
