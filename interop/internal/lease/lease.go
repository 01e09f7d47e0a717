// Package lease has the leases under which a worker holds tasks, how many it takes ahead, and whether it may take.
package lease

import (
	"crypto/sha1" //nolint:gosec // it names bytes, as Redis does; nothing is kept secret by it
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// Lease is a key with a TTL; Q_processing maps it to the task held under it. It is used again only when it is certain that the
// command that ended it has been carried out: until then nobody can know whether the field is free.
type Lease struct {
	Pool    *Pool
	Name    string
	Field   []byte // the name as it stands in a command
	Data    []byte // the task, or nothing
	Suspect bool   // the task has a lost count
	Asked   bool   // Redis has said whether the task may begin: this
	Answer  rdb.StartResult
	Since   time.Time   // when its task began
	Busy    atomic.Bool // its task is handed to the slots and has no answered ending
	Begun   atomic.Bool // its task has begun
	Slots   string      // the concurrency key of its task; the fetcher's alone
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
	l.Data, l.Asked = nil, false
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
	Prefetch   Prefetch       // the fetcher's alone
	superseded func(l *Lease) // called when a lease was lost while its task ran
	Gate       Gate

	// What ended since the fetcher last looked, for the prefetch.
	Count, Size, Busy atomic.Int64

	token  string
	serial int // the fetcher's alone; it is never set back, so that no name is used twice
	mu     sync.Mutex
	made   map[string]*Lease // all that may hold something or have a key
	free   []*Lease          // those of them that hold nothing and may be used, the next one last
	Ruined []string          // names of those that nobody could end, and that shall run out

	deferred atomic.Bool         // tasks are noted that could not run somewhere
	ran      map[string]struct{} // the SHA-1 of those that could run here since the last beat, as long as there are such notes
}

const mostNoted = 1000 // different tasks between two beats of which it is noted that they could run

// NoteRun notes a task that can run here: others of the same bytes may be noted as such that could not run elsewhere, which must not
// make the time shorter for which the next one waits.
func (p *Pool) NoteRun(data []byte) {
	if !p.deferred.Load() {
		return
	}
	digest := sha1.Sum(data)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ran == nil {
		p.ran = map[string]struct{}{}
	}
	if len(p.ran) < mostNoted {
		p.ran[hex.EncodeToString(digest[:])] = struct{}{}
	}
}

// TakeRun is what noteRun has noted, once, and says whether there is anything to note from now on.
func (p *Pool) TakeRun(deferred bool) []string {
	p.deferred.Store(deferred)
	p.mu.Lock()
	defer p.mu.Unlock()
	ran := slices.Collect(maps.Keys(p.ran))
	p.ran = nil
	return ran
}

func NewPool(store *rdb.Store, place int, superseded func(*Lease)) *Pool {
	hash := conn.AppendBulk(nil, store.Keys.Processing)
	return &Pool{Store: store, Index: place, Hash: hash, superseded: superseded, token: rdb.Token(), made: map[string]*Lease{}}
}

// Slots counts the tasks of each concurrency key that are handed to the slots and have no answered ending. It is the fetcher's alone.
func (p *Pool) Slots() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[string]int64{}
	for _, l := range p.made {
		if l.Slots != "" && l.Busy.Load() {
			counts[l.Slots]++
		}
	}
	return counts
}

// Get is count leases that hold nothing, and how many of them, from the first, should have a living key.
func (p *Pool) Get(count int) (leases []*Lease, living int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	living = min(count, len(p.free))
	leases = make([]*Lease, 0, count)
	rest := len(p.free) - living
	leases = append(leases, p.free[rest:]...)
	p.free = p.free[:rest]
	for len(leases) < count {
		l := &Lease{Pool: p, Name: p.Store.Keys.Lease(p.token, p.serial)}
		l.Field = conn.AppendBulk(nil, l.Name)
		l.Ended = l.Answered
		p.serial++
		p.made[l.Name] = l
		leases = append(leases, l)
	}
	return leases, living
}

// PutBack takes back leases that get gave and that hold nothing; the first living of them have a key.
func (p *Pool) PutBack(leases []*Lease, living int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, leases[:living]...)
	for _, l := range leases[living:] {
		delete(p.made, l.Name)
	}
}

// ReleaseIdle forgets the leases that hold nothing, and returns their names: an idle worker keeps none.
func (p *Pool) ReleaseIdle() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, len(p.free))
	for i, l := range p.free {
		names[i] = l.Name
		delete(p.made, l.Name)
	}
	p.free = nil
	return names
}

// Renew is called after the connection broke, or after a gap in the beats: nothing is taken under the old names again. Those that
// still run stay; the names of the others are returned. After a fault these may hold tasks that nobody here knows of, and are
// forgotten once that has been given back.
func (p *Pool) Renew() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name, l := range p.made {
		l.Old.Store(true)
		if !l.Busy.Load() {
			names = append(names, name)
		}
	}
	p.free = nil
	return names
}

func (p *Pool) Forget(names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.made, name)
	}
}

// Names are those of all leases that may hold something or have a key.
func (p *Pool) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.made))
	for name := range p.made {
		names = append(names, name)
	}
	return names
}

// Abandon lets a lease run out that holds a task: it is neither kept alive nor given back.
func (p *Pool) Abandon(l *Lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.made, l.Name)
	p.Ruined = append(p.Ruined, l.Name)
}

// Held are the names of all leases that may hold something or have a key, those first whose tasks have begun, and what they hold, as far as
// that is known.
func (p *Pool) Held() (names []string, tasks map[string][]byte, begun int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var others []string
	tasks = map[string][]byte{}
	for name, l := range p.made {
		tasks[name] = l.Data
		if l.Begun.Load() {
			names = append(names, name)
		} else {
			others = append(others, name)
		}
	}
	return append(names, others...), tasks, len(names)
}

// Lapsed is called when the key of a lease was found gone. It reports whether there is a task in the buffer or in execution under it.
func (p *Pool) Lapsed(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, found := p.made[name]
	if !found {
		return false
	}
	if l.Busy.Load() {
		l.Old.Store(true)
		return true
	}
	if i := slices.Index(p.free, l); i >= 0 { // else a take that makes its key is on its way
		p.free = slices.Delete(p.free, i, i+1)
		delete(p.made, name)
	}
	return false
}

// Adapt adapts the prefetch to what ended since it was last asked.
func (p *Pool) Adapt(slots int) {
	p.Prefetch.Adapt(p.Count.Swap(0), p.Size.Swap(0), time.Duration(p.Busy.Swap(0)), slots)
}
