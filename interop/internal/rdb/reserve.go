package rdb

import (
	"context"
	"math"
)

// Reserve takes the next free instant of a rate key, which are a second / perSecond apart. It returns that in milliseconds since 1970.
// earliest is the earliest that will do, likewise; 0 for now.
func (s *Store) Reserve(ctx context.Context, key string, perSecond float64, earliest int64) (int64, error) {
	interval := Decimal(int64(math.Round(1e6 / perSecond)))
	reply, err := s.Run(ctx, "reserve", []string{s.Keys.Pace(key)}, interval, Decimal(earliest))
	if err != nil {
		return 0, err
	}
	at, _ := reply.(int64)
	return at, nil
}
