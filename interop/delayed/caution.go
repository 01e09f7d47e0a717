package delayed

import (
	"slices"
	"time"
)

const (
	settle     = 5 * time.Second        // after an outage, in which living workers say that they live, before a lease is held to be dead
	stalled    = 250 * time.Millisecond // for an answer, that speak of an outage though the connection did not break, …
	unusual    = 4                      // … if that is so many times what this link usually takes
	remembered = 5                      // looks that say what is usual
	clockStep  = time.Second            // that a clock may be off between two looks,
	clockDrift = 1000                   // and the part of the time that has passed
	manyTimes  = 3                      // postponements running of which an operator should hear
)

// caution is what the answers of one server say of its health: when a lease without a key may be held to be dead.
//
// After an outage leases may be gone although their workers live, because nobody could beat; so may they when the server's clock was set
// forward. Then the living go first: what is dead at one look and still dead when they have settled is dead. The caution for all
// others begins anew with each outage; for a suspect it does not, or a link that is slow, or cut again and again, would keep what dead
// workers held for ever. The caller says what time it is.
type caution struct {
	usually   time.Duration // the time to settle, if there is no reason for another
	settling  time.Duration
	present   time.Duration // for which the server has been there, as far as we know
	settledAt time.Duration // when present is this, a lease without a key is dead
	heardAt   time.Time     // when it was known to be there; zero: there is no connection
	took      []time.Duration
	postponed int // outages since leases were judged without doubt
	asked     time.Time
	answered  time.Time
	clock     int64 // milliseconds; 0: not asked yet
}

func newCaution(settling time.Duration) *caution {
	return &caution{usually: settling, settling: settling}
}

// heard says that the server has answered, over the connection over which it did so last.
func (c *caution) heard(now time.Time) {
	if !c.heardAt.IsZero() {
		c.present += now.Sub(c.heardAt)
		c.heardAt = now
	}
}

// isStalled reports whether an answer took so much longer than usual that living workers may not have been able to beat.
func (c *caution) isStalled(asked, answered time.Time) bool {
	var usual time.Duration
	if sorted := slices.Sorted(slices.Values(c.took)); len(sorted) > 0 {
		usual = sorted[len(sorted)/2]
	}
	took := answered.Sub(asked)
	c.took = append(c.took, took)
	if len(c.took) > remembered {
		c.took = c.took[1:]
	}
	if took <= max(stalled, unusual*usual) {
		c.heard(answered)
		return false
	}
	c.heardAt = answered
	return true
}

// step is by how much the server's clock, in milliseconds, has been set forward since the last call, or back (below 0), for certain; 0
// if it has not.
func (c *caution) step(asked, answered time.Time, clock int64) time.Duration {
	earlier := *c
	c.asked, c.answered, c.clock = asked, answered, clock
	if earlier.clock == 0 {
		return 0
	}
	passed := time.Duration(clock-earlier.clock) * time.Millisecond
	least, most := asked.Sub(earlier.answered), answered.Sub(earlier.asked)
	bound := clockStep + most/clockDrift
	switch {
	case passed-most > bound:
		return passed - most
	case passed-least < -bound:
		return passed - least
	}
	return 0
}

// doubt says that living workers may not have been able to beat: they have so long from now on.
func (c *caution) doubt(settling time.Duration) {
	c.postponed++
	if !c.settled() {
		settling = max(settling, c.settling)
	}
	c.settling = settling
	c.settledAt = c.present + settling
}

// trust says that at this look nothing speaks of an outage.
func (c *caution) trust() {
	if c.settled() {
		c.postponed, c.settling = 0, c.usually
	}
}

// settled reports whether living workers have had the time to beat.
func (c *caution) settled() bool { return c.present >= c.settledAt }

// suspects are the leases of one queue that were dead when there was doubt, and since when they are known to be.
type suspects struct {
	*caution
	since map[suspect]time.Duration
	seen  map[suspect]bool
}

type suspect struct{ key, lease string }

func newSuspects(c *caution) *suspects {
	return &suspects{c, map[suspect]time.Duration{}, map[suspect]bool{}}
}

// dead are those of the leases in a hash, whose own keys are gone, that are dead: all, or, where there is doubt, those that have been
// suspect for long enough.
func (s *suspects) dead(key string, leases []string) []string {
	if s.settled() {
		return leases
	}
	var found []string
	for _, lease := range leases {
		this := suspect{key, lease}
		s.seen[this] = true
		since, known := s.since[this]
		if !known {
			since = s.present
			s.since[this] = since
		}
		if s.present-since >= s.settling {
			found = append(found, lease)
		}
	}
	return found
}

// looked says that all leases in a hash have been looked at: those that live again are no suspects any more.
func (s *suspects) looked(key string) {
	for this := range s.since {
		if this.key == key && (s.settled() || !s.seen[this]) {
			delete(s.since, this)
		}
	}
	clear(s.seen)
}

// acquit says that all leases may have gone for another reason than we thought: none is suspect any more.
func (s *suspects) acquit() { clear(s.since) }

// ripensIn is how long it takes until another of the suspects has been one for long enough, if there is one.
func (s *suspects) ripensIn() (first time.Duration, some bool) {
	for _, since := range s.since {
		if left := since + s.settling - s.present; left > 0 && (!some || left < first) {
			first, some = left, true
		}
	}
	return first, some
}
