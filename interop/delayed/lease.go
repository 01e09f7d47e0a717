package delayed

import (
	"crypto/sha1" //nolint:gosec // it names bytes, as Redis does; nothing is kept secret by it
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A lease is a key with a TTL; Q_processing maps it to the task held under it. It is used again only when it is certain that the
// command that ended it has been carried out: until then nobody can know whether the field is free.
type lease struct {
	book    *book
	name    string
	field   []byte      // the name as it stands in a command
	data    []byte      // the task, or nothing
	suspect bool        // the task has a lost count
	busy    atomic.Bool // its task is handed to the slots and has no answered ending
	begun   atomic.Bool // its task has begun
	// The connection over which it was made broke, or there was a gap in the beats, or its key was found gone: its name is not used
	// again, and the reply to its ending matters.
	old   atomic.Bool
	ended func(any, bool) // l.answered, bound once
}

// answered is called with the reply to the command that ended the lease. repeated says that it was sent twice, so that 0 may only
// mean that it worked the first time.
func (l *lease) answered(reply any, repeated bool) {
	l.judge(reply, repeated)
	l.release()
}

// judge says so where the lease had been lost.
func (l *lease) judge(reply any, repeated bool) {
	if reply != int64(1) && !repeated {
		l.book.superseded(l)
	}
}

// release is called when the lease holds nothing any more, and Redis has said so.
func (l *lease) release() {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	l.data = nil
	l.busy.Store(false)
	l.begun.Store(false)
	if l.old.Load() {
		delete(l.book.made, l.name)
	} else {
		l.book.free = append(l.book.free, l)
	}
}

// book has the leases that a worker has made on one queue.
type book struct {
	store      *store
	place      int            // of the queue among its worker's
	hash       []byte         // the key of Q_processing as it stands in a command
	pace       pace           // the taker's alone
	superseded func(l *lease) // called when a lease was lost while its task ran
	gate       gate

	// What ended since the taker last looked, for the pace.
	count, size, busy atomic.Int64

	token  string
	serial int // the taker's alone; it is never set back, so that no name is used twice
	mu     sync.Mutex
	made   map[string]*lease // all that may hold something or have a key
	free   []*lease          // those of them that hold nothing and may be used, the next one last
	ruined []string          // names of those that nobody could end, and that shall run out

	deferred atomic.Bool         // tasks are noted that could not run somewhere
	ran      map[string]struct{} // the SHA-1 of those that could run here since the last beat, as long as there are such notes
}

const mostRun = 1000 // different tasks between two beats of which it is noted that they could run

// noteRun is told of a task that can run here: others of the same bytes may be noted as such that could not run elsewhere, which must not
// make the time shorter for which the next one waits.
func (b *book) noteRun(data []byte) {
	if !b.deferred.Load() {
		return
	}
	digest := sha1.Sum(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ran == nil {
		b.ran = map[string]struct{}{}
	}
	if len(b.ran) < mostRun {
		b.ran[hex.EncodeToString(digest[:])] = struct{}{}
	}
}

// takeRun is what noteRun has noted, once, and says whether there is anything to note from now on.
func (b *book) takeRun(deferred bool) []string {
	b.deferred.Store(deferred)
	b.mu.Lock()
	defer b.mu.Unlock()
	ran := slices.Collect(maps.Keys(b.ran))
	b.ran = nil
	return ran
}

func newBook(store *store, place int, superseded func(*lease)) *book {
	hash := appendBulk(nil, store.Keys.Processing)
	return &book{store: store, place: place, hash: hash, superseded: superseded, token: token(), made: map[string]*lease{}}
}

// get is count leases that hold nothing, and how many of them, from the first, should have a living key.
func (b *book) get(count int) (leases []*lease, living int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	living = min(count, len(b.free))
	leases = make([]*lease, 0, count)
	rest := len(b.free) - living
	leases = append(leases, b.free[rest:]...)
	b.free = b.free[:rest]
	for len(leases) < count {
		l := &lease{book: b, name: b.store.Keys.Lease(b.token, b.serial)}
		l.field = appendBulk(nil, l.name)
		l.ended = l.answered
		b.serial++
		b.made[l.name] = l
		leases = append(leases, l)
	}
	return leases, living
}

// unused takes back leases that get gave and that hold nothing; the first living of them have a key.
func (b *book) unused(leases []*lease, living int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, leases[:living]...)
	for _, l := range leases[living:] {
		delete(b.made, l.name)
	}
}

// rest forgets the leases that hold nothing, and returns their names: an idle worker keeps none.
func (b *book) rest() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, len(b.free))
	for i, l := range b.free {
		names[i] = l.name
		delete(b.made, l.name)
	}
	b.free = nil
	return names
}

// renew is called after the connection broke, or after a gap in the beats: nothing is taken under the old names again. Those that
// still run stay; the names of the others are returned. After a fault these may hold tasks that nobody here knows of, and are
// forgotten once that has been given back.
func (b *book) renew() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name, l := range b.made {
		l.old.Store(true)
		if !l.busy.Load() {
			names = append(names, name)
		}
	}
	b.free = nil
	return names
}

func (b *book) forget(names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		delete(b.made, name)
	}
}

// names are those of all leases that may hold something or have a key.
func (b *book) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.made))
	for name := range b.made {
		names = append(names, name)
	}
	return names
}

// abandon lets a lease run out that holds a task: it is neither kept alive nor given back.
func (b *book) abandon(l *lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.made, l.name)
	b.ruined = append(b.ruined, l.name)
}

// held are the names of all leases that may hold something or have a key, those first whose tasks have begun, and what they hold, as far as
// that is known.
func (b *book) held() (names []string, tasks map[string][]byte, begun int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var others []string
	tasks = map[string][]byte{}
	for name, l := range b.made {
		tasks[name] = l.data
		if l.begun.Load() {
			names = append(names, name)
		} else {
			others = append(others, name)
		}
	}
	return append(names, others...), tasks, len(names)
}

// lapsed is called when the key of a lease was found gone. It tells whether there is a task in hand or in execution under it.
func (b *book) lapsed(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, found := b.made[name]
	if !found {
		return false
	}
	if l.busy.Load() {
		l.old.Store(true)
		return true
	}
	if i := slices.Index(b.free, l); i >= 0 { // else a take that makes its key is on its way
		b.free = slices.Delete(b.free, i, i+1)
		delete(b.made, name)
	}
	return false
}

// learn tells the pace what ended since it was last asked.
func (b *book) learn(slots int) {
	b.pace.learn(b.count.Swap(0), b.size.Swap(0), time.Duration(b.busy.Swap(0)), slots)
}
