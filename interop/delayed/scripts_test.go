package delayed

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

type scriptVector struct {
	Script, Name string
	Keys, Argv   []any
	Before       map[string]storedKey
	Reply        any
	After        map[string]storedKey
}

type storedKey struct {
	Type  string
	Value any
	TTL   bool
}

// spelled undoes how values are written in the vectors: see "about" in the file.
func spelled(value any, queue string) any {
	switch value := value.(type) {
	case string:
		return strings.ReplaceAll(value, "<Q>", queue)
	case float64:
		return int64(value)
	case []any:
		list := []any{}
		for _, item := range value {
			if repeated, ok := item.(map[string]any); ok && repeated["repeat"] != nil {
				for range int(repeated["repeat"].(float64)) {
					list = append(list, spelled(repeated["of"], queue))
				}
			} else {
				list = append(list, spelled(item, queue))
			}
		}
		return list
	case map[string]any:
		if text, ok := value["hex"].(string); ok {
			data, err := hex.DecodeString(text)
			if err != nil {
				panic(err)
			}
			return string(data)
		}
		named := map[string]any{}
		for key, item := range value {
			named[spelled(key, queue).(string)] = spelled(item, queue)
		}
		return named
	}
	return value
}

func TestScriptVectors(t *testing.T) {
	text, err := os.ReadFile("../../tests/vectors/scripts.json")
	must(t, err)
	var file struct{ Vectors []scriptVector }
	must(t, json.Unmarshal(text, &file))
	seen := map[string]bool{}
	for _, vector := range file.Vectors {
		seen[vector.Script] = true
		t.Run(vector.Script+"/"+vector.Name, func(t *testing.T) { runVector(t, vector) })
	}
	for name := range rdb.Scripts {
		if !seen[name] {
			t.Errorf("no vector for %s", name)
		}
	}
}

func runVector(t *testing.T, vector scriptVector) {
	queue := newQueue(t)
	name, client := queue.Name(), queue.store.Client
	for key, stored := range vector.Before {
		keepValue(t, client, spelled(key, name).(string), stored, name)
	}
	var keys []string
	for _, key := range spelled(vector.Keys, name).([]any) {
		keys = append(keys, key.(string))
	}
	reply, err := client.Eval(context.Background(), rdb.Scripts[vector.Script].Source, keys, spelled(vector.Argv, name).([]any)...).Result()
	must(t, err)
	if want := spelled(vector.Reply, name); !reflect.DeepEqual(reply, want) && vector.Script != "page" || vector.Script == "page" && !samePage(reply, want) {
		t.Errorf("reply: %#v, not %#v", reply, want)
	}
	want := map[string]string{}
	for key, stored := range vector.After {
		want[spelled(key, name).(string)] = fmt.Sprintf("%s %v ttl %v", stored.Type, spelled(stored.Value, name), stored.TTL)
	}
	got := map[string]string{}
	found, err := client.Keys(context.Background(), name+"*").Result()
	must(t, err)
	for _, key := range found {
		got[key] = retrieve(t, client, key)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("after:\n%.2000q\nnot\n%.2000q", got, want)
	}
}

// samePage compares pages, in which the names stand in any order.
func samePage(reply, want any) bool {
	names := map[any]int{}
	for i, name := range reply.([]any)[1:] {
		names[name]++
		names[want.([]any)[i+1]]--
	}
	for _, count := range names {
		if count != 0 {
			return false
		}
	}
	return reply.([]any)[0] == want.([]any)[0] && len(reply.([]any)) == len(want.([]any))
}

func keepValue(t *testing.T, client redis.UniversalClient, key string, stored storedKey, queue string) {
	t.Helper()
	ctx := context.Background()
	value := spelled(stored.Value, queue)
	var err error
	switch stored.Type {
	case "string":
		err = client.Set(ctx, key, value, 0).Err()
	case "list":
		err = client.RPush(ctx, key, value.([]any)...).Err()
	case "hash":
		for field, item := range stored.Value.(map[string]any) { // one by one: in the order of the file as far as Go keeps it
			err = client.HSet(ctx, key, spelled(field, queue), spelled(item, queue)).Err()
		}
	case "zset":
		for member, score := range value.(map[string]any) {
			err = client.Do(ctx, "ZADD", key, score, member).Err()
		}
	case "stream":
		for _, item := range value.([]any) {
			entry := item.(map[string]any)
			err = client.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: entry["id"].(string), Values: entry["fields"]}).Err()
		}
	}
	must(t, err)
	if stored.TTL {
		must(t, client.PExpire(ctx, key, time.Minute).Err())
	}
}

func retrieve(t *testing.T, client redis.UniversalClient, key string) string {
	t.Helper()
	ctx := context.Background()
	kind, err := client.Type(ctx, key).Result()
	must(t, err)
	var value any
	switch kind {
	case "string":
		value, err = client.Get(ctx, key).Result()
	case "list":
		value, err = client.LRange(ctx, key, 0, -1).Result()
	case "hash":
		var fields map[string]string
		fields, err = client.HGetAll(ctx, key).Result()
		for field, text := range fields {
			if field == "ended" && len(text) == 13 || field == "log" { // likewise
				fields[field] = "*"
			}
		}
		value = fields
	case "zset":
		members := map[string]string{}
		var scored []redis.Z
		scored, err = client.ZRangeWithScores(ctx, key, 0, -1).Result()
		for _, each := range scored {
			members[each.Member.(string)] = fmt.Sprint(int64(each.Score))
			if 1e12 < each.Score && each.Score < 1e13 { // the server's clock gave it
				members[each.Member.(string)] = "*"
			}
		}
		value = members
	case "stream":
		var entries any
		entries, err = client.Do(ctx, "XRANGE", key, "-", "+").Result() // go-redis's own XRange forgets the order of the fields
		list := []any{}
		for _, entry := range entries.([]any) {
			id := entry.([]any)[0].(string)
			if len(id) > 10 { // the server's clock gave it
				id = "*"
			}
			fields := entry.([]any)[1].([]any)
			if fields[0] == "batch" { // likewise
				fields[1] = "*"
			}
			list = append(list, map[string]any{"id": id, "fields": fields})
		}
		value = list
	}
	must(t, err)
	left, err := client.PTTL(ctx, key).Result()
	must(t, err)
	return fmt.Sprintf("%s %v ttl %v", kind, value, left > 0)
}
