package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/delayedq/delayed/interop/delayed"
)

// Client is for the Redis in DELAYED_REDIS_URL.
var Client = sync.OnceValues(func() (redis.UniversalClient, error) { return delayed.Connect(os.Getenv("DELAYED_REDIS_URL")) })

// Echo appends value, as MessagePack, to the list key.
func Echo(key string, value any) error {
	var data bytes.Buffer
	encoder := msgpack.NewEncoder(&data)
	encoder.UseCompactInts(true)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	return push(key, data.Bytes())
}

// Hold appends to key:began, waits for something in key:go, and appends to key:ended.
func Hold(key string) error {
	if err := push(key+":began", "1"); err != nil {
		return err
	}
	client, err := Client()
	for err == nil || errors.Is(err, redis.Nil) {
		if err = client.BLPop(context.Background(), time.Second, key+":go").Err(); err == nil {
			return push(key+":ended", "1")
		}
	}
	return err
}

// Fail fails, and says so in the log.
func Fail() error {
	err := errors.New("as it was told to")
	fmt.Fprintln(os.Stderr, "failed", err)
	return err
}

func push(key string, value any) error {
	client, err := Client()
	if err != nil {
		return err
	}
	return client.RPush(context.Background(), key, value).Err()
}
