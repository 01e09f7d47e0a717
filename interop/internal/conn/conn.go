// Package conn has connections that one goroutine owns, and sends over them the commands that end leases.
package conn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/errs"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

const Deadline = 4 * time.Second // that a reply may take before the connection is given up; below the 5 in which work goes on

// ReplyError is an error reply.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// RedisError marks it as what go-redis calls a redis.Error: Redis has answered.
func (e ReplyError) RedisError() {}

// Misplaced reports whether the error says "not this server, not now": a new connection may find the right one.
func (e ReplyError) Misplaced() bool {
	word, _, _ := strings.Cut(string(e), " ")
	switch word {
	case "NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "NOREPLICAS":
		return true
	}
	return false
}

// Conn is one connection that its owner writes to and reads from as it likes. go-redis knows how to connect (URLs, TLS, Unix
// sockets, Sentinel, Cluster); it has no way to send a command without waiting for its reply, and that is what a worker does.
type Conn struct {
	net.Conn
	In   *bufio.Reader
	Trip time.Duration // that a round trip took as it was opened with scripts
}

// Push is a message that is no reply.
type Push []any

// Dial opens a connection to the server that has key, and makes sure that it has the scripts.
func Dial(ctx context.Context, client redis.UniversalClient, key string) (*Conn, error) {
	return dialTo(ctx, client, key, true)
}

// DialBare opens a connection to the server that has key.
func DialBare(ctx context.Context, client redis.UniversalClient, key string) (*Conn, error) {
	return dialTo(ctx, client, key, false)
}

func dialTo(ctx context.Context, client redis.UniversalClient, key string, scripts bool) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	single, err := rdb.Master(ctx, client, key)
	if err != nil {
		return nil, err
	}
	options := single.Options()
	socket, err := options.Dialer(ctx, options.Network, options.Addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: socket, In: bufio.NewReaderSize(socket, 64<<10)}
	if err := c.introduce(ctx, options, scripts); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) introduce(ctx context.Context, options *redis.Options, scripts bool) error {
	user, password := options.Username, options.Password
	var err error
	switch {
	case options.StreamingCredentialsProvider != nil:
		return fmt.Errorf("%w: a worker cannot use a StreamingCredentialsProvider", errs.ErrConfiguration)
	case options.CredentialsProviderContext != nil:
		user, password, err = options.CredentialsProviderContext(ctx)
	case options.CredentialsProvider != nil:
		user, password = options.CredentialsProvider()
	}
	if err != nil {
		return err
	}
	var commands [][]string
	add := func(args ...string) { commands = append(commands, args) }
	if user != "" && password != "" {
		add("AUTH", user, password)
	} else if password != "" {
		add("AUTH", password)
	}
	if options.DB != 0 {
		add("SELECT", strconv.Itoa(options.DB))
	}
	if options.ClientName != "" {
		add("CLIENT", "SETNAME", options.ClientName)
	}
	if err := c.sendAll(commands); err != nil || !scripts {
		return err
	}
	return c.loadScripts(ctx)
}

// sendAll sends commands at once, and reads their replies.
func (c *Conn) sendAll(commands [][]string) error {
	if len(commands) == 0 {
		return nil
	}
	var packed []byte
	for _, command := range commands {
		packed = AppendCommand(packed, command...)
	}
	_, err := c.Exchange(packed, len(commands))
	return err
}

// loadScripts gives the server the scripts that it lacks.
func (c *Conn) loadScripts(ctx context.Context) error {
	began := time.Now()
	known, err := c.Call(ctx, rdb.AskForScripts()...)
	c.Trip = time.Since(began)
	if err != nil && !Answered(err) { // else it may not be asked
		return err
	}
	return c.sendAll(rdb.MissingScripts(known))
}

// Exchange sends count packed commands at once and returns their replies. An error reply is the error for all.
func (c *Conn) Exchange(packed []byte, count int) ([]any, error) {
	if err := c.SetDeadline(time.Now().Add(Deadline)); err != nil {
		return nil, err
	}
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	replies := make([]any, count)
	var refusal error
	for i := range replies {
		reply, err := c.Read()
		if err != nil {
			return nil, err
		}
		if failure, ok := reply.(ReplyError); ok && refusal == nil {
			refusal = failure
		}
		replies[i] = reply
	}
	return replies, refusal
}

// Call sends a command and returns its reply: see caller.
func (c *Conn) Call(_ context.Context, args ...string) (any, error) {
	replies, err := c.Exchange(AppendCommand(nil, args...), 1)
	if err != nil {
		return nil, err
	}
	return replies[0], nil
}

// Block sends a blocking command, and waits for its reply as long as wait says; a deadline set by another goroutine ends that.
func (c *Conn) Block(packed []byte) (any, error) {
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	reply, err := c.Read()
	if failure, ok := reply.(ReplyError); ok {
		return nil, failure
	}
	return reply, err
}

// Read reads the next reply: nil, int64, string, []byte, []any, or redisError, which is a reply, not an error; in RESP3 also a message,
// which is pushed.
func (c *Conn) Read() (any, error) {
	line, err := c.In.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, errors.New("delayed: Redis sent an empty line")
	}
	body := line[1 : len(line)-2]
	switch line[0] {
	case ':':
		if len(body) == 1 { // 0 and 1, the replies to endings, need no parsing
			return int64(body[0] - '0'), nil
		}
		return strconv.ParseInt(string(body), 10, 64)
	case '+':
		return string(body), nil
	case '-':
		return ReplyError(body), nil
	case '_':
		return nil, nil
	case '$', '*', '>', '%':
		count, err := strconv.Atoi(string(body))
		if err != nil || count < 0 {
			return nil, err
		}
		return c.readCounted(line[0], count)
	}
	return nil, fmt.Errorf("delayed: Redis sent %q", line)
}

// readCounted reads the rest of a reply that began with its kind and a count.
func (c *Conn) readCounted(kind byte, count int) (any, error) {
	switch kind {
	case '$':
		return c.readBulk(count)
	case '%': // a map is its keys and values in turn
		count *= 2
	}
	values := make([]any, count)
	for i := range values {
		var err error
		if values[i], err = c.Read(); err != nil {
			return nil, err
		}
	}
	if kind == '>' {
		return Push(values), nil
	}
	return values, nil
}

func (c *Conn) readBulk(size int) (any, error) {
	data := make([]byte, size+2)
	for filled := 0; filled < len(data); {
		n, err := c.In.Read(data[filled:])
		if err != nil {
			return nil, err
		}
		filled += n
	}
	return data[:size:size], nil
}

// AppendCommand appends a command in the bytes of the Redis protocol.
func AppendCommand(to []byte, args ...string) []byte {
	to = append(to, '*')
	to = strconv.AppendInt(to, int64(len(args)), 10)
	to = append(to, '\r', '\n')
	for _, arg := range args {
		to = AppendBulk(to, arg)
	}
	return to
}

// AppendBulk appends a string as it stands in a command.
func AppendBulk(to []byte, arg string) []byte {
	to = append(to, '$')
	to = strconv.AppendInt(to, int64(len(arg)), 10)
	to = append(to, '\r', '\n')
	to = append(to, arg...)
	return append(to, '\r', '\n')
}

func (c *Conn) CloseIfAny() {
	if c != nil {
		c.Close()
	}
}

// Answered reports whether the error is Redis's own word, so that it was not away.
func Answered(err error) bool {
	var refusal ReplyError
	return errors.As(err, &refusal) && !refusal.Misplaced()
}
