package delayed

import (
	"context"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
)

// connectionBroke is called, from any goroutine, when a connection broke: nothing new begins before there is another one.
func (w *Worker) connectionBroke(err error) {
	if w.broken.Swap(true) {
		return
	}
	w.log.Warn("lost Redis; trying again", "error", err)
	w.giveBackUnbegun()
	w.fetcher.wakeFetcher()
}

// giveBackUnbegun gives back what is in the buffer. It returns how many tasks those were.
func (w *Worker) giveBackUnbegun() int {
	var leases []*lease.Lease
	for {
		select {
		case l := <-w.buffer:
			leases = append(leases, l)
			continue
		default:
		}
		if len(leases) > 0 {
			w.giveBack(leases)
		}
		return len(leases)
	}
}

// giveBack gives back leases whose tasks went into the buffer and have not begun: at once, or when there is a connection again.
func (w *Worker) giveBack(leases []*lease.Lease) {
	for len(leases) > 0 { // usually all of one queue, but the buffer may hold tasks of two
		pool := leases[0].Pool
		var mine, others []*lease.Lease
		var names []string
		tasks := map[string][]byte{}
		for _, l := range leases {
			if l.Pool == pool {
				mine, names = append(mine, l), append(names, l.Name)
				tasks[l.Name] = l.Data
			} else {
				others = append(others, l)
			}
		}
		command := pool.Store.GivingBack(names, tasks, 0)
		w.acks.PostLater(conn.Ending{Packed: conn.AppendCommand(nil, command...), Answered: func(any, bool) {
			for _, l := range mine {
				l.Release()
			}
		}})
		w.buffered.Add(-int64(len(mine)))
		leases = others
	}
	w.signalRoom()
}

// open connects, and begins anew: endings that had no reply are sent again first, then all else that was held under the old names,
// known or not, goes back to its queue. What still runs goes on under its old name.
func (w *Worker) open() error {
	w.acks.Close()
	w.fetcher.conn.CloseIfAny()
	w.fetcher.conn = nil
	w.giveBackUnbegun()
	connections := make([]*conn.Conn, 3)
	for i := range connections {
		c, err := conn.Dial(context.Background(), w.queues[0].store.Client, w.queues[0].Name())
		if err != nil {
			connections[0].CloseIfAny()
			connections[1].CloseIfAny()
			return err
		}
		connections[i] = c
	}
	w.fetcher.mu.Lock()
	w.fetcher.conn = connections[0]
	w.fetcher.mu.Unlock()
	w.broken.Store(false)
	if err := w.acks.Open(connections[1:]); err != nil {
		return err
	}
	err := w.acks.Settle()
	for _, pool := range w.pools {
		pool.Prefetch.Trip = connections[0].Trip
		_, tasks, _ := pool.Held()
		names := pool.Renew()
		if err != nil || len(names) == 0 {
			continue
		}
		if _, err = pool.Store.Over(w.fetcher.conn).GiveBack(context.Background(), names, tasks, 0); err == nil {
			pool.Forget(names)
			_, err = w.fetcher.conn.Call(context.Background(), append([]string{"UNLINK"}, names...)...)
		}
	}
	return err
}
