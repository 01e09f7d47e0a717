package rdb

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"
)

const counted = 10 // groups, and keys that tasks wait for, whose tasks are counted

// Totals are what is there of a queue, and what has been counted of it.
type Totals struct {
	Waiting, Held, Dead int64  // tasks that wait, wherever, of ten groups and of ten keys at most; that workers have; dead letters
	Recovered, Buried   int64  // by sweepers, since the queue exists
	Counted             []byte // what workers have counted: docs/protocol.md, section 7f
}

// Totals asks for them, by two batches of commands that are as many however many tasks there are. It is false if one of the keys cannot be
// read, as another program uses it.
func (s *Store) Totals(ctx context.Context) (t Totals, known bool, err error) {
	k, last := s.Keys, strconv.Itoa(counted-1)
	found, err := s.answers(ctx, []string{"LLEN", k.Queue}, []string{"ZCARD", k.Scheduled}, []string{"HLEN", k.Processing}, []string{"XLEN", k.Dead},
		[]string{"LRANGE", k.Groups, "0", last}, []string{"HSCAN", k.Waited, "0", "COUNT", strconv.Itoa(counted)},
		[]string{"HMGET", k.Stats, "recovered", "buried"}, []string{"HGET", k.StatsTotal, ""})
	if err != nil || found == nil {
		return t, false, err
	}
	sweepers, _ := found[6].([]any)
	t = Totals{Waiting: integer(found[0]) + integer(found[1]), Held: integer(found[2]), Dead: integer(found[3]), Counted: Bulk(found[7])}
	if len(sweepers) == 2 {
		t.Recovered, t.Buried = integer(sweepers[0]), integer(sweepers[1])
	}
	lines := s.lines(found[4], found[5])
	if len(lines) == 0 {
		return t, true, nil
	}
	lengths, err := s.answers(ctx, lines...)
	for _, length := range lengths {
		t.Waiting += integer(length)
	}
	return t, lengths != nil, err
}

// lines are the commands that ask how many tasks wait in these groups and for these keys.
func (s *Store) lines(groups, waited any) (commands [][]string) {
	for _, group := range Strings(groups) {
		commands = append(commands, []string{"LLEN", s.Keys.Group(group)})
	}
	if page := asList(waited); len(page) == 2 {
		fields := asList(page[1])
		for i := 0; i+1 < min(len(fields), 2*counted); i += 2 { // a small hash comes in one page, whatever was asked for
			if name := string(Bulk(fields[i])); IsDigest(name) && sought.Match(Bulk(fields[i+1])) {
				commands = append(commands, []string{"ZCARD", s.Keys.Waits(name)})
			}
		}
	}
	return commands
}

// answers are the replies to commands; none if one of them is an error.
func (s *Store) answers(ctx context.Context, commands ...[]string) ([]any, error) {
	replies, err := s.Batch(ctx, 0, commands...)
	for _, reply := range replies {
		if _, failed := reply.(redis.Error); failed {
			return nil, err
		}
	}
	return replies, err
}

func asList(reply any) []any {
	list, _ := reply.([]any)
	return list
}

// integer is a number, or a text that has one; else 0.
func integer(reply any) int64 {
	if number, ok := reply.(int64); ok {
		return number
	}
	number, _ := strconv.ParseInt(string(Bulk(reply)), 10, 64) //nolint:errcheck // nil, or what another program has written
	return number
}
