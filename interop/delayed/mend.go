package delayed

import "context"

// breaks is called, from any goroutine, when a connection broke: nothing new begins before there is another one.
func (w *Worker) breaks(err error) {
	if w.broken.Swap(true) {
		return
	}
	w.log.Warn("lost Redis; trying again", "error", err)
	w.giveBackUnbegun()
	w.wake()
}

// giveBackUnbegun gives back what is in the hand. It returns how many tasks those were.
func (w *Worker) giveBackUnbegun() int {
	var leases []*lease
	for {
		select {
		case l := <-w.hand:
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

// giveBack gives back leases of one hand that were handed out and have not begun: at once, or when there is a connection again.
func (w *Worker) giveBack(leases []*lease) {
	for len(leases) > 0 { // usually all of one queue, but a hand may hold tasks of two
		b := leases[0].book
		var mine, others []*lease
		var names []string
		tasks := map[string][]byte{}
		for _, l := range leases {
			if l.book == b {
				mine, names = append(mine, l), append(names, l.name)
				tasks[l.name] = l.data
			} else {
				others = append(others, l)
			}
		}
		command := b.store.givingBack(names, tasks, 0)
		w.ends.postLater(ending{packed: appendCommand(nil, command...), answered: func(any, bool) {
			for _, l := range mine {
				l.release()
			}
		}})
		w.handed.Add(-int64(len(mine)))
		leases = others
	}
	w.signalRoom()
}

// open connects, and begins anew: endings that had no reply are sent again first, then all else that was held under the old names,
// known or not, goes back to its queue. What still runs goes on under its old name.
func (w *Worker) open() error {
	w.ends.close()
	w.takes.closeIfAny()
	w.takes = nil
	w.giveBackUnbegun()
	connections := make([]*conn, 3)
	for i := range connections {
		c, err := dial(context.Background(), w.queues[0].store.client, w.queues[0].Name())
		if err != nil {
			connections[0].closeIfAny()
			connections[1].closeIfAny()
			return err
		}
		connections[i] = c
	}
	w.takesMu.Lock()
	w.takes = connections[0]
	w.takesMu.Unlock()
	w.broken.Store(false)
	if err := w.ends.open(connections[1:]); err != nil {
		return err
	}
	err := w.ends.settle()
	for _, b := range w.books {
		names := b.renew()
		if err != nil || len(names) == 0 {
			continue
		}
		if _, err = b.store.over(w.takes).GiveBack(context.Background(), names, nil, 0); err == nil {
			b.forget(names)
			_, err = w.takes.call(context.Background(), append([]string{"UNLINK"}, names...)...)
		}
	}
	return err
}
