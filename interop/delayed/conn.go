package delayed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const deadline = 5 * time.Second // that a reply may take before the connection is given up

// redisError is an error reply.
type redisError string

func (e redisError) Error() string { return string(e) }

// RedisError marks it as what go-redis calls a redis.Error: Redis has answered.
func (e redisError) RedisError() {}

// misplaced tells whether the error says "not this server, not now": a new connection may find the right one.
func (e redisError) misplaced() bool {
	word, _, _ := strings.Cut(string(e), " ")
	switch word {
	case "NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "NOREPLICAS":
		return true
	}
	return false
}

// conn is one connection that its owner writes to and reads from as it likes. go-redis knows how to connect (URLs, TLS, Unix
// sockets, Sentinel, Cluster); it has no way to send a command without waiting for its reply, and that is what a worker does.
type conn struct {
	net.Conn
	in *bufio.Reader
}

// pushed is a message that is no reply.
type pushed []any

// dial opens a connection to the server that has key, and makes sure that it has the scripts.
func dial(ctx context.Context, client redis.UniversalClient, key string) (*conn, error) {
	return dialTo(ctx, client, key, true)
}

// dialBare opens a connection to the server that has key.
func dialBare(ctx context.Context, client redis.UniversalClient, key string) (*conn, error) {
	return dialTo(ctx, client, key, false)
}

func dialTo(ctx context.Context, client redis.UniversalClient, key string, scripts bool) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	single, err := master(ctx, client, key)
	if err != nil {
		return nil, err
	}
	options := single.Options()
	socket, err := options.Dialer(ctx, options.Network, options.Addr)
	if err != nil {
		return nil, err
	}
	c := &conn{socket, bufio.NewReaderSize(socket, 64<<10)}
	if err := c.introduce(ctx, options, scripts); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) introduce(ctx context.Context, options *redis.Options, scripts bool) error {
	user, password := options.Username, options.Password
	var err error
	switch {
	case options.StreamingCredentialsProvider != nil:
		return fmt.Errorf("%w: a worker cannot use a StreamingCredentialsProvider", errConfiguration)
	case options.CredentialsProviderContext != nil:
		user, password, err = options.CredentialsProviderContext(ctx)
	case options.CredentialsProvider != nil:
		user, password = options.CredentialsProvider()
	}
	if err != nil {
		return err
	}
	var packed []byte
	count := 0
	add := func(args ...string) { packed, count = appendCommand(packed, args...), count+1 }
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
	if count > 0 {
		if _, err := c.exchange(packed, count); err != nil {
			return err
		}
	}
	if !scripts {
		return nil
	}
	known, err := c.call(ctx, haveScripts()...)
	if err != nil && !answered(err) { // else it may not be asked
		return err
	}
	packed, count = nil, 0
	for _, command := range loadCommands(known) {
		add(command...)
	}
	if count > 0 {
		_, err = c.exchange(packed, count)
		return err
	}
	return nil
}

// exchange sends count packed commands at once and returns their replies. An error reply is the error for all.
func (c *conn) exchange(packed []byte, count int) ([]any, error) {
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return nil, err
	}
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	replies := make([]any, count)
	var refusal error
	for i := range replies {
		reply, err := c.read()
		if err != nil {
			return nil, err
		}
		if failure, ok := reply.(redisError); ok && refusal == nil {
			refusal = failure
		}
		replies[i] = reply
	}
	return replies, refusal
}

// call sends a command and returns its reply: see caller.
func (c *conn) call(_ context.Context, args ...string) (any, error) {
	replies, err := c.exchange(appendCommand(nil, args...), 1)
	if err != nil {
		return nil, err
	}
	return replies[0], nil
}

// block sends a blocking command, and waits for its reply as long as wait says; a deadline set by another goroutine ends that.
func (c *conn) block(packed []byte) (any, error) {
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	reply, err := c.read()
	if failure, ok := reply.(redisError); ok {
		return nil, failure
	}
	return reply, err
}

// read reads the next reply: nil, int64, string, []byte, []any, or redisError, which is a reply, not an error; in RESP3 also a message,
// which is pushed.
func (c *conn) read() (any, error) {
	line, err := c.in.ReadSlice('\n')
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
		return redisError(body), nil
	case '_':
		return nil, nil
	case '$', '*', '>', '%':
		count, err := strconv.Atoi(string(body))
		if err != nil || count < 0 {
			return nil, err
		}
		switch line[0] {
		case '$':
			return c.readBulk(count)
		case '%': // a map is its keys and values in turn
			count *= 2
		}
		values := make([]any, count)
		for i := range values {
			if values[i], err = c.read(); err != nil {
				return nil, err
			}
		}
		if line[0] == '>' {
			return pushed(values), nil
		}
		return values, nil
	}
	return nil, fmt.Errorf("delayed: Redis sent %q", line)
}

func (c *conn) readBulk(size int) (any, error) {
	data := make([]byte, size+2)
	for filled := 0; filled < len(data); {
		n, err := c.in.Read(data[filled:])
		if err != nil {
			return nil, err
		}
		filled += n
	}
	return data[:size:size], nil
}

// appendCommand appends a command in the bytes of the Redis protocol.
func appendCommand(to []byte, args ...string) []byte {
	to = append(to, '*')
	to = strconv.AppendInt(to, int64(len(args)), 10)
	to = append(to, '\r', '\n')
	for _, arg := range args {
		to = appendBulk(to, arg)
	}
	return to
}

// appendBulk appends a string as it stands in a command.
func appendBulk(to []byte, arg string) []byte {
	to = append(to, '$')
	to = strconv.AppendInt(to, int64(len(arg)), 10)
	to = append(to, '\r', '\n')
	to = append(to, arg...)
	return append(to, '\r', '\n')
}

func (c *conn) closeIfAny() {
	if c != nil {
		c.Close()
	}
}

// answered tells whether the error is Redis's own word, so that it was not away.
func answered(err error) bool {
	var refusal redisError
	return errors.As(err, &refusal) && !refusal.misplaced()
}
