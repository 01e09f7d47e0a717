package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/delayedq/delayed/interop/delayed"
)

// Noop does nothing.
func Noop() {}

// Append adds a line to a file.
func Append(path, line string) (err error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.WriteString(line + "\n")
	return err
}

var logs sync.Map // path → *os.File: the task shall be as quick as can be

// Log adds a number of 8 bytes to a file.
func Log(path string, number uint64) error {
	log, found := logs.Load(path)
	if !found {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		log, _ = logs.LoadOrStore(path, file)
	}
	_, err := log.(*os.File).Write(binary.BigEndian.AppendUint64(nil, number)) //nolint:forcetypeassert // nothing else is in it
	return err
}

// Sleep takes some seconds, or until the worker gives it up.
func Sleep(ctx context.Context, seconds float64) error {
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SleepAppend adds line+" begins" to a file, sleeps, and adds line+" ends".
func SleepAppend(ctx context.Context, path, line string, seconds float64) error {
	if err := Append(path, line+" begins"); err != nil {
		return err
	}
	if err := Sleep(ctx, seconds); err != nil {
		return err
	}
	return Append(path, line+" ends")
}

// Fail returns an error.
func Fail(message string) error { return errors.New(message) }

// Panic panics.
func Panic(message string) { panic(message) }

var clients sync.Map // URL → redis.UniversalClient: a pool for all tasks

func client(address string) (redis.UniversalClient, error) {
	if known, found := clients.Load(address); found {
		return known.(redis.UniversalClient), nil //nolint:forcetypeassert // nothing else is in it
	}
	opened, err := delayed.Connect(address)
	if err != nil {
		return nil, err
	}
	known, taken := clients.LoadOrStore(address, opened)
	if taken {
		opened.Close()
	}
	return known.(redis.UniversalClient), nil //nolint:forcetypeassert // as above
}

// Sha256File hashes a file, and appends [path, size, digest in hex] in MessagePack to the list at key.
func Sha256File(ctx context.Context, path, redisURL, key string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return err
	}
	result, err := msgpack.Marshal([]any{path, size, hex.EncodeToString(hash.Sum(nil))})
	if err != nil {
		return err
	}
	to, err := client(redisURL)
	if err != nil {
		return err
	}
	return to.RPush(ctx, key, result).Err()
}
