package tally

import (
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// numbers are the fields and amounts of a path among words.
func numbers(t *testing.T, words []string, path string) map[int]int {
	t.Helper()
	for i := 0; i < len(words); i += 2 {
		if words[i] == path {
			var pairs []int
			if err := msgpack.Unmarshal([]byte(words[i+1]), &pairs); err != nil {
				t.Fatal(err)
			}
			found := map[int]int{}
			for j := 0; j < len(pairs); j += 2 {
				found[pairs[j]] = pairs[j+1]
			}
			return found
		}
	}
	return nil
}

func TestWhatIsCountedIsTakenOnce(t *testing.T) {
	var counter Counter
	if _, some := counter.Take(); some {
		t.Error("something was counted")
	}
	counter.Ended("a", Succeeded, 5*time.Millisecond)
	counter.Ended("a", Retried, 2*time.Hour)
	counter.Ended("b", Cancelled, 0)
	counter.Waited(time.Second)
	counter.Waited(-time.Second)
	taken, some := counter.Take()
	words := taken.Words()
	sum, of := numbers(t, words, ""), numbers(t, words, "a")
	if !some || words[0] != "" || sum[1] != 1 || sum[2] != 1 || sum[5] != 1 || sum[22] != 1000 || sum[23] != 1 || sum[28] != 1 {
		t.Error(sum)
	}
	if of[8] != 2*3_600_000+5 || of[9] != 1 || of[21] != 1 || of[5] != 0 {
		t.Error(of)
	}
	if _, some := counter.Take(); some {
		t.Error("it was taken twice")
	}
	counter.Ended("a", Succeeded, 0)
	counter.Restore(taken)
	again, _ := counter.Take()
	if sum := numbers(t, again.Words(), "a"); sum[1] != 2 || sum[2] != 1 {
		t.Error(sum)
	}
}

func TestTooManyFunctionsAreInTheSumAlone(t *testing.T) {
	var counter Counter
	for i := range mostFunctions + 50 {
		counter.Ended(strings.Repeat("x", i%300), Failed, 0)
	}
	taken, _ := counter.Take()
	words := taken.Words()
	if len(words) > 2*(mostFunctions+1) || numbers(t, words, "")[3] != mostFunctions+50 {
		t.Error(len(words), numbers(t, words, ""))
	}
}
