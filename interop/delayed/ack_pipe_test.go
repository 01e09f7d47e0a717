package delayed

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// ackWire is a line over a connection whose other end the test holds.
type ackWire struct {
	*conn.AckPipe
	t       *testing.T
	server  net.Conn
	in      *bufio.Reader
	alive   atomic.Bool
	broke   chan error
	replies chan string
}

func newAckWire(t *testing.T) *ackWire {
	t.Helper()
	w := &ackWire{t: t, broke: make(chan error, 1), replies: make(chan string, 10)}
	w.alive.Store(true)
	w.AckPipe = conn.NewAckPair(func(time.Time) bool { return w.alive.Load() }, func(err error) { w.broke <- err }).Pipes[0]
	return w
}

// connect opens a connection; greeting is what Redis replies to CLIENT REPLY ON.
func (w *ackWire) connect(greeting string) {
	w.t.Helper()
	client, server := net.Pipe()
	w.server, w.in = server, bufio.NewReader(server)
	w.t.Cleanup(func() { client.Close(); server.Close() })
	opened := make(chan error)
	go func() { opened <- w.Open(&conn.Conn{Conn: client, In: bufio.NewReader(client)}) }()
	w.expect("CLIENT REPLY ON")
	w.reply(greeting)
	must(w.t, <-opened)
}

// expect reads commands.
func (w *ackWire) expect(commands ...string) {
	w.t.Helper()
	must(w.t, w.server.SetReadDeadline(time.Now().Add(10*time.Second)))
	for _, want := range commands {
		line, err := w.in.ReadString('\n')
		must(w.t, err)
		count := 0
		_, err = fmt.Sscanf(line, "*%d", &count)
		must(w.t, err)
		words := make([]string, count)
		for i := range words {
			size := 0
			line, err := w.in.ReadString('\n')
			must(w.t, err)
			_, err = fmt.Sscanf(line, "$%d", &size)
			must(w.t, err)
			word := make([]byte, size+2)
			_, err = io.ReadFull(w.in, word)
			must(w.t, err)
			words[i] = string(word[:size])
		}
		if got := strings.Join(words, " "); got != want {
			w.t.Fatalf("%q, not %q", got, want)
		}
	}
}

func (w *ackWire) reply(lines ...string) {
	w.t.Helper()
	must(w.t, w.server.SetWriteDeadline(time.Now().Add(10*time.Second)))
	_, err := w.server.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	must(w.t, err)
}

func (w *ackWire) ending(field string) conn.Ending {
	answered := func(reply any, repeated bool) { w.replies <- fmt.Sprint(field, " ", reply, " ", repeated) }
	return conn.Ending{Field: conn.AppendBulk(nil, field), Hash: conn.AppendBulk(nil, "hash"), Answered: answered}
}

// sends runs post or settle, and sees what it writes before it returns.
func (w *ackWire) sends(action func(), commands ...string) <-chan struct{} {
	w.t.Helper()
	done := background(action)
	w.expect(commands...)
	return done
}

func (w *ackWire) answers(want ...string) {
	w.t.Helper()
	got := []string{}
	for len(w.replies) > 0 {
		got = append(got, <-w.replies)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%q, not %q", got, want)
	}
}

func (w *ackWire) settled(want error) func() {
	return func() {
		if err := w.Settle(); (err == nil) != (want == nil) {
			w.t.Error(err)
		}
	}
}

func TestEndingsAreSentWithoutRepliesAndConfirmedTogether(t *testing.T) {
	w := newAckWire(t)
	w.connect("+OK")
	<-w.sends(func() { w.Post(w.ending("a")) }, "CLIENT REPLY OFF", "HDEL hash a") // it returns without a reply
	<-w.sends(func() { w.Post(w.ending("b")) }, "HDEL hash b")
	w.answers()
	done := w.sends(w.settled(nil), "CLIENT REPLY ON", "HDEL hash a b")
	waiting := background(func() { w.Post(w.ending("c")) })
	w.reply("+OK", ":0")
	<-done
	w.expect("CLIENT REPLY OFF", "HDEL hash c") // only now: nothing is sent while a reply may wait
	<-waiting
	w.answers("a 0 true", "b 0 true")
}

func TestEndingsThatNeedReplies(t *testing.T) {
	asking := conn.Ending{Packed: conn.AppendCommand(nil, "BURY", "x")}
	cases := map[string]func(*ackWire) conn.Ending{
		"a command of its own": func(w *ackWire) conn.Ending { asking.Answered = w.ending("c").Answered; return asking },
		"an old lease":         func(w *ackWire) conn.Ending { e := w.ending("c"); e.Ask = true; return e },
		"a gap in the beats":   func(w *ackWire) conn.Ending { w.alive.Store(false); return w.ending("c") },
	}
	for name, make := range cases {
		t.Run(name, func(t *testing.T) {
			w := newAckWire(t)
			w.connect("+OK")
			<-w.sends(func() { w.Post(w.ending("a")) }, "CLIENT REPLY OFF", "HDEL hash a")
			e := make(w)
			command := "HDEL hash c"
			if e.Packed != nil {
				command = "BURY x"
			}
			done := w.sends(func() { w.Post(e) }, "CLIENT REPLY ON", "HDEL hash a", command)
			w.reply("+OK", ":0")
			select {
			case <-done:
				t.Error("it did not wait for its reply")
			default:
			}
			w.reply(":0")
			<-done
			w.answers("a 0 true", "c 0 false")
			must(t, w.Settle())
		})
	}
}

// finish is the ending of a tracked task that has succeeded.
func (w *ackWire) finish(lease string) conn.Ending {
	w.t.Helper()
	keys, err := rdb.NewKeys("q")
	must(w.t, err)
	e := w.ending(lease)
	e.Store = rdb.NewStore(keys, nil)
	e.Finish = &rdb.Finish{Lease: lease, Holds: rdb.Holds{ID: "id" + lease}, Result: []byte("r"), Keep: time.Second, Ended: time.UnixMilli(7)}
	e.Quiet = true
	return e
}

func TestTrackedTasksThatSucceedEndTogether(t *testing.T) {
	script := func(count, rest string) string {
		return "EVALSHA " + rdb.Scripts["finish_many"].Sha + " " + count + " q_processing " + rest
	}
	w := newAckWire(t)
	for _, lease := range []string{"a", "b"} { // there is no connection yet
		w.Post(w.finish(lease))
	}
	w.Post(w.ending("c"))
	w.connect("+OK")
	<-w.sends(func() { w.Post(w.finish("d")) }, "CLIENT REPLY OFF", script("3", "q_task_ida q_task_idb 7 a r 1000 b r 1000"), "HDEL hash c",
		script("2", "q_task_idd 7 d r 1000"))
	w.answers()
	done := w.sends(w.settled(io.EOF), "CLIENT REPLY ON", "HMGET hash a b", "HDEL hash c", "HMGET hash d")
	w.reply("+OK", "*2", "$-1", "$4", "held", ":0", "*1", "$-1")
	<-done
	<-w.broke
	w.answers("a 1 true", "c 0 true", "d 1 true")
	w.connect("+OK") // what is still held did not end
	done = w.sends(w.settled(nil), script("2", "q_task_idb 7 b r 1000"))
	w.reply(":1")
	<-done
	w.answers("b 1 true")
}

func TestTasksWithAKeyEndTogether(t *testing.T) {
	keyed := func(w *ackWire, lease string, h rdb.Holds) conn.Ending {
		e := w.finish(lease)
		e.Finish.Holds = h
		return e
	}
	keys, err := rdb.NewKeys("q")
	must(t, err)
	home := "q_processing q q_noti q_waited "
	slot, unique := keys.Slots("k"), keys.Unique("u")
	slots, owned := slot+" "+keys.WaitsForSlot("k"), unique+" "+keys.WaitsForUnique(unique)
	w := newAckWire(t)
	w.Post(keyed(w, "a", rdb.Holds{Slots: "k", Limit: 2}))
	w.Post(keyed(w, "b", rdb.Holds{ID: "idb", Unique: "u", Mode: "until_done"}))
	w.Post(w.finish("c")) // which has none
	w.connect("+OK")
	<-w.sends(func() { w.Post(keyed(w, "d", rdb.Holds{ID: "idd", Slots: "k", Limit: 2})) }, "CLIENT REPLY OFF",
		"EVALSHA "+rdb.Scripts["finish_held"].Sha+" 10 "+home+"q_processing "+slots+" q_task_idb "+owned+" 7 a - r 1000 b idb r 1000",
		"EVALSHA "+rdb.Scripts["finish_many"].Sha+" 2 q_processing q_task_idc 7 c r 1000",
		"EVALSHA "+rdb.Scripts["finish_held"].Sha+" 7 "+home+"q_task_idd "+slots+" 7 d - r 1000")
	w.answers()
	done := w.sends(w.settled(nil), "CLIENT REPLY ON", "HMGET hash a b c d")
	w.reply("+OK", "*4", "$-1", "$-1", "$-1", "$-1")
	<-done
	w.answers("a 1 true", "b 1 true", "c 1 true", "d 1 true")
}

func TestTrackedTasksEndOneByOneWhereSomeMayBeLost(t *testing.T) {
	w := newAckWire(t)
	w.Post(w.finish("a"))
	w.Post(w.finish("b"))
	w.connect("+OK")
	w.alive.Store(false)
	one := "EVALSHA " + rdb.Scripts["finish_many"].Sha + " 2 q_processing "
	done := w.sends(w.settled(nil), one+"q_task_ida 7 a r 1000", one+"q_task_idb 7 b r 1000")
	w.reply(":0", ":1")
	<-done
	w.answers("a 0 false", "b 1 false")
}

func TestAProxyThatDoesNotKnowSilence(t *testing.T) {
	w := newAckWire(t)
	w.connect("-ERR unknown command")
	done := w.sends(func() { w.Post(w.ending("a")) }, "HDEL hash a")
	w.reply(":1")
	<-done
	w.answers("a 1 false")
	must(t, w.Settle())
}

func TestWhatWasRefusedOrNotAnsweredIsSentAgainFirst(t *testing.T) {
	w := newAckWire(t)
	w.connect("+OK")
	<-w.sends(func() { w.Post(w.ending("a")) }, "CLIENT REPLY OFF", "HDEL hash a")
	bury := conn.Ending{Packed: conn.AppendCommand(nil, "BURY", "b"), Answered: w.ending("b").Answered}
	done := w.sends(func() { w.Post(bury) }, "CLIENT REPLY ON", "HDEL hash a", "BURY b")
	w.reply("+OK", "-MISCONF the disk is full", ":1")
	<-done
	<-w.broke
	w.answers("b 1 false")
	w.Post(w.ending("c")) // there is no connection
	w.connect("+OK")
	done = w.sends(w.settled(io.EOF), "HDEL hash a", "HDEL hash c")
	w.reply(":0")
	w.server.Close() // before the second reply
	<-done
	<-w.broke
	w.answers("a 0 true")
	w.connect("+OK")
	done = w.sends(w.settled(nil), "HDEL hash c")
	w.reply(":0")
	<-done
	w.answers("c 0 true")
}
