package rdb

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a name, no secret
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/interop/internal/errs"
)

const LeasePart = "_lease_"

var suffixes = []string{"_noti", "_processing", "_lost", "_dead", "_workers", "_stats", "_stats_total", "_scheduled", "_wake",
	"_control", "_bucket", "_groups", "_cron", "_cron_due", "_cron_defined", "_waited", "_deferred",
	"_flow_outbox", "_flow_ids", "_flow_due", "_bulk_jobs", "_history", "_numbers"}

// IsDigest reports whether this is a SHA-1 in hexadecimal.
var IsDigest = regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString

// ofOne is the form of the keys that belong to one task, group or key.
var ofOne = regexp.MustCompile(`(?s)._(?:task_[A-Za-z0-9_-]{16}|number_[0-9]{1,20}|(?:unique|slots|pace|waits|group)_[0-9a-f]{40}|` +
	`flow(?:_marks|_joins)?_[A-Za-z0-9_-]{10}|flow_bodies_[0-9]+_[A-Za-z0-9_-]{10}|` +
	`stats_(?:minutes|hours|days)_[0-9]{1,9})$`)

// Keys are all keys of a queue. Nothing else in this package builds one, and no script does.
type Keys struct {
	Queue       string // list: waiting tasks
	Noti        string // list: a '1' for each waiting task
	Processing  string // hash: lease → the task held under it
	Lost        string // hash: SHA-1 of a task → 'losses:sweep'; gone a day after the last loss
	Deferred    string // hash: SHA-1 of a task that no worker could run so far → 'first:last:count' (milliseconds since 1970), TTL
	Dead        string // stream: dead letters (task, reason, detail, worker)
	Workers     string // hash: a process's own lease → what it says of itself (MessagePack)
	Cron        string // hash: a schedule's name → what it is (MessagePack)
	CronDue     string // zset: the names of schedules that are not paused, by their next occurrence (milliseconds since 1970)
	CronDefined string // hash: the names of schedules that code has registered → SHA-1 of what they were
	Stats       string // hash: recovered, buried → counts since the queue exists
	StatsTotal  string // hash: a function's path, or nothing for all → what workers counted: see tally
	Scheduled   string // zset: 16 characters and a task, by when it is due (milliseconds since 1970)
	Wake        string // list: a '1' when something is due earlier than all before, for sweepers to wait for
	Control     string // hash: what operators want (paused, concurrency, rate, burst), and what the history keeps
	History     string // stream: what has happened to tasks
	Bucket      string // hash with a TTL: with a rate, how many tokens there were when
	Waited      string // hash: how the name of a set of tasks that wait for a key ends → what they wait for
	Groups      string // list: the SHA-1 of each group that has waiting tasks, in the order of their turns
	FlowOutbox  string // list: the workflows in which something has happened that is to be carried into their joins
	FlowIDs     string // zset: the workflows, by when they are forgotten (milliseconds since 1970)
	FlowDue     string // zset: a workflow and what its time is over for, by when it is (milliseconds since 1970)
}

// NewKeys are the keys of the queue called name. The error wraps errConfiguration if the name is empty, or would make keys that
// belong to another queue.
func NewKeys(name string) (Keys, error) {
	if name == "" {
		return Keys{}, fmt.Errorf("%w: a queue's name is not empty", errs.ErrConfiguration)
	}
	for taken, what := range map[string]string{Register: "the register of queues", audit: "the audit of operators' acts", interests: "the table of interests",
		"delayed:tokens": "the tokens of the server", "delayed:couchqueue": "what CouchQueue's interface keeps"} {
		if name == taken || strings.HasPrefix(name, taken+":") {
			return Keys{}, fmt.Errorf("%w: %q cannot be the name of a queue: it is %s", errs.ErrConfiguration, name, what)
		}
	}
	clash := strings.Contains(name, LeasePart) || ofOne.MatchString(name)
	for _, suffix := range suffixes {
		clash = clash || strings.HasSuffix(name, suffix)
	}
	if clash {
		return Keys{}, fmt.Errorf("%w: %q cannot be the name of a queue: it would share keys with another queue; choose one that "+
			"does not contain %q and does not end in %s, in _task_ and 16 characters, in _unique_, _slots_, _pace_, _waits_ or "+
			"_group_ and 40 hexadecimal digits, in _number_ and digits, in _flow_ and 10 characters, or in _stats_minutes_, _stats_hours_ or _stats_days_ and a number", errs.ErrConfiguration, name, LeasePart, strings.Join(suffixes, ", "))
	}
	return Keys{
		Queue:       name,
		Noti:        name + "_noti",
		Processing:  name + "_processing",
		Lost:        name + "_lost",
		Deferred:    name + "_deferred",
		Dead:        name + "_dead",
		Workers:     name + "_workers",
		Cron:        name + "_cron",
		CronDue:     name + "_cron_due",
		CronDefined: name + "_cron_defined",
		Stats:       name + "_stats",
		StatsTotal:  name + "_stats_total",
		Scheduled:   name + "_scheduled",
		Wake:        name + "_wake",
		Control:     name + "_control",
		History:     name + "_history",
		Bucket:      name + "_bucket",
		Waited:      name + "_waited",
		Groups:      name + "_groups",
		FlowOutbox:  name + "_flow_outbox",
		FlowIDs:     name + "_flow_ids",
		FlowDue:     name + "_flow_due",
	}, nil
}

// Own is a string with a TTL: the own lease of the process that calls itself token.
func (k Keys) Own(token string) string { return k.Queue + LeasePart + token }

// Lease is a string with a TTL: one of the leases under which a process holds tasks.
func (k Keys) Lease(token string, number int) string {
	return k.Own(token) + "_" + strconv.Itoa(number)
}

// Task is a hash with a TTL: the state of a tracked task, and its result.
func (k Keys) Task(id string) string { return k.Queue + "_task_" + id }

// Unique is a string with a TTL: the id of the task that has a unique key.
func (k Keys) Unique(key string) string { return k.UniqueBy(Digest(key)) }

// UniqueBy is as Unique, of a key that is named by its digest; and string: the id of the workflow that has one.
func (k Keys) UniqueBy(sha1 string) string { return k.Queue + "_unique_" + sha1 }

// Slots is a hash with a TTL: of the tasks with one concurrency key that run, lease → length of the task.
func (k Keys) Slots(key string) string { return k.Queue + "_slots_" + Digest(key) }

// Pace is a string with a TTL: the next free instant of a rate key, in microseconds since 1970.
func (k Keys) Pace(key string) string { return k.Queue + "_pace_" + Digest(key) }

// WaitsForSlot is a sorted set: the tasks that wait for a slot of a concurrency key, as in Scheduled, by when they came.
func (k Keys) WaitsForSlot(key string) string { return k.Waits(Digest(key)) }

// WaitsForUnique is likewise of those that wait for a unique key; key is what Unique says. Its SHA-1 stands there read from its end, so
// that it is no concurrency key's.
func (k Keys) WaitsForUnique(key string) string {
	sha1 := []byte(key[len(key)-40:])
	slices.Reverse(sha1)
	return k.Waits(string(sha1))
}

func (k Keys) Waits(sha1 string) string { return k.Queue + "_waits_" + sha1 }

// ownsUnique reports whether this is a unique key of the queue, by its form, and ownsWaits, whether tasks wait there for one of its keys.
func (k Keys) ownsUnique(key string) bool {
	sha1, found := strings.CutPrefix(key, k.Queue+"_unique_")
	return found && IsDigest(sha1)
}

func (k Keys) ownsWaits(key string) bool {
	sha1, found := strings.CutPrefix(key, k.Waits(""))
	return found && IsDigest(sha1)
}

// Group is a list: the waiting tasks of one group, named by its SHA-1.
func (k Keys) Group(sha1 string) string { return k.Queue + "_group_" + sha1 }

// Digest is the SHA-1 of a text, in hexadecimal: what stands in a key for a name of any length.
func Digest(text string) string {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // a name, no secret
	return hex.EncodeToString(sum[:])
}

// Token is something that nobody can guess and nobody has used: 96 random bits.
func Token() string {
	var random [12]byte
	rand.Read(random[:]) //nolint:errcheck // never fails (see its documentation)
	text := base64.RawURLEncoding.EncodeToString(random[:])
	if text[0] == '-' { // people write it on command lines
		return "_" + text[1:]
	}
	return text
}

// SharesSlot reports whether, on Redis Cluster, all keys of the queue lie in the slot of its name: it has a {tag}.
func SharesSlot(name string) bool {
	_, rest, found := strings.Cut(name, "{")
	return found && strings.Index(rest, "}") > 0
}
