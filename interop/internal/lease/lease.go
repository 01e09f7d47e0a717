package lease

import (
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

//nolint:gosec // it names bytes, as Redis does; nothing is kept secret by it

// A lease is a key with a TTL; Q_processing maps it to the task held under it. It is used again only when it is certain that the
// command that ended it has been carried out: until then nobody can know whether the field is free.
type Lease struct {
	Pool    *Pool
	Name    string
	Field   []byte      // the name as it stands in a command
	Data    []byte      // the task, or nothing
	Suspect bool        // the task has a lost count
	Busy    atomic.Bool // its task is handed to the slots and has no answered ending
	Begun   atomic.Bool // its task has begun
	// The connection over which it was made broke, or there was a gap in the beats, or its key was found gone: its name is not used
	// again, and the reply to its ending matters.
	Old   atomic.Bool
	Ended func(any, bool) // l.answered, bound once
}

// Answered is called with the reply to the command that ended the lease. repeated says that it was sent twice, so that 0 may only
// mean that it worked the first time.
func (l *Lease) Answered(reply any, repeated bool) {
	l.Judge(reply, repeated)
	l.Release()
}

// Judge says so where the lease had been lost.
func (l *Lease) Judge(reply any, repeated bool) {
	if reply != int64(1) && !repeated {
		l.Pool.superseded(l)
	}
}

// Release is called when the lease holds nothing any more, and Redis has said so.
func (l *Lease) Release() {
	l.Pool.mu.Lock()
	defer l.Pool.mu.Unlock()
	l.Data = nil
	l.Busy.Store(false)
	l.Begun.Store(false)
	if l.Old.Load() {
		delete(l.Pool.made, l.Name)
	} else {
		l.Pool.free = append(l.Pool.free, l)
	}
}

// Pool has the leases that a worker has made on one queue.
type Pool struct {
	Store      *rdb.Store
	Index      int            // of the queue among its worker's
	Hash       []byte         // the key of Q_processing as it stands in a command
	Prefetch   Prefetch       // the taker's alone
	superseded func(l *Lease) // called when a lease was lost while its task ran
	Gate       Gate

	// What ended since the taker last looked, for the pace.
	Count, Size, Busy atomic.Int64

	token  string
	serial int // the taker's alone; it is never set back, so that no name is used twice
	mu     sync.Mutex
	made   map[string]*Lease // all that may hold something or have a key
	free   []*Lease          // those of them that hold nothing and may be used, the next one last
	Ruined []string          // names of those that nobody could end, and that shall run out

	deferred atomic.Bool         // tasks are noted that could not run somewhere
	ran      map[string]struct{} // the SHA-1 of those that could run here since the last beat, as long as there are such notes
}

const mostNoted = 1000 // different tasks between two beats of which it is noted that they could run

// NoteRun is told of a task that can run here: others of the same bytes may be noted as such that could not run elsewhere, which must not
// make the time shorter for which the next one waits.
func (b *Pool) NoteRun(data []byte) {
	if !b.deferred.Load() {
		return
	}
	digest := sha1.Sum(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ran == nil {
		b.ran = map[string]struct{}{}
	}
	if len(b.ran) < mostNoted {
		b.ran[hex.EncodeToString(digest[:])] = struct{}{}
	}
}

// TakeRun is what noteRun has noted, once, and says whether there is anything to note from now on.
func (b *Pool) TakeRun(deferred bool) []string {
	b.deferred.Store(deferred)
	b.mu.Lock()
	defer b.mu.Unlock()
	ran := slices.Collect(maps.Keys(b.ran))
	b.ran = nil
	return ran
}

func NewPool(store *rdb.Store, place int, superseded func(*Lease)) *Pool {
	hash := conn.AppendBulk(nil, store.Keys.Processing)
	return &Pool{Store: store, Index: place, Hash: hash, superseded: superseded, token: rdb.Token(), made: map[string]*Lease{}}
}

// Get is count leases that hold nothing, and how many of them, from the first, should have a living key.
func (b *Pool) Get(count int) (leases []*Lease, living int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	living = min(count, len(b.free))
	leases = make([]*Lease, 0, count)
	rest := len(b.free) - living
	leases = append(leases, b.free[rest:]...)
	b.free = b.free[:rest]
	for len(leases) < count {
		l := &Lease{Pool: b, Name: b.Store.Keys.Lease(b.token, b.serial)}
		l.Field = conn.AppendBulk(nil, l.Name)
		l.Ended = l.Answered
		b.serial++
		b.made[l.Name] = l
		leases = append(leases, l)
	}
	return leases, living
}

// PutBack takes back leases that get gave and that hold nothing; the first living of them have a key.
func (b *Pool) PutBack(leases []*Lease, living int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, leases[:living]...)
	for _, l := range leases[living:] {
		delete(b.made, l.Name)
	}
}

// ReleaseIdle forgets the leases that hold nothing, and returns their names: an idle worker keeps none.
func (b *Pool) ReleaseIdle() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, len(b.free))
	for i, l := range b.free {
		names[i] = l.Name
		delete(b.made, l.Name)
	}
	b.free = nil
	return names
}

// Renew is called after the connection broke, or after a gap in the beats: nothing is taken under the old names again. Those that
// still run stay; the names of the others are returned. After a fault these may hold tasks that nobody here knows of, and are
// forgotten once that has been given back.
func (b *Pool) Renew() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name, l := range b.made {
		l.Old.Store(true)
		if !l.Busy.Load() {
			names = append(names, name)
		}
	}
	b.free = nil
	return names
}

func (b *Pool) Forget(names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		delete(b.made, name)
	}
}

// Names are those of all leases that may hold something or have a key.
func (b *Pool) Names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.made))
	for name := range b.made {
		names = append(names, name)
	}
	return names
}

// Abandon lets a lease run out that holds a task: it is neither kept alive nor given back.
func (b *Pool) Abandon(l *Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.made, l.Name)
	b.Ruined = append(b.Ruined, l.Name)
}

// Held are the names of all leases that may hold something or have a key, those first whose tasks have begun, and what they hold, as far as
// that is known.
func (b *Pool) Held() (names []string, tasks map[string][]byte, begun int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var others []string
	tasks = map[string][]byte{}
	for name, l := range b.made {
		tasks[name] = l.Data
		if l.Begun.Load() {
			names = append(names, name)
		} else {
			others = append(others, name)
		}
	}
	return append(names, others...), tasks, len(names)
}

// Lapsed is called when the key of a lease was found gone. It tells whether there is a task in hand or in execution under it.
func (b *Pool) Lapsed(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, found := b.made[name]
	if !found {
		return false
	}
	if l.Busy.Load() {
		l.Old.Store(true)
		return true
	}
	if i := slices.Index(b.free, l); i >= 0 { // else a take that makes its key is on its way
		b.free = slices.Delete(b.free, i, i+1)
		delete(b.made, name)
	}
	return false
}

// Adapt tells the pace what ended since it was last asked.
func (b *Pool) Adapt(slots int) {
	b.Prefetch.Adapt(b.Count.Swap(0), b.Size.Swap(0), time.Duration(b.Busy.Swap(0)), slots)
}
