// Package connect makes clients for the URLs that Python and Go share.
package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/errs"
	"github.com/redis/go-redis/v9"
)

const (
	poolPatience     = 20 * time.Second // that a command waits for a connection to be free, if nothing else is said
	failover         = "FailoverClient" // what go-redis calls the address of a client that asks sentinels
	sentinelPatience = time.Second      // that a sentinel may take to say why it names no primary
)

// NewClient is a client for a URL.
func NewClient(url string) (redis.UniversalClient, error) {
	a, err := Read(url)
	if err != nil {
		return nil, err
	}
	secure, err := a.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("%w: the ssl_… options in the URL of Redis cannot be used: %s", errs.ErrConfiguration, err.Error())
	}
	switch a.Kind {
	case kindCluster:
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: a.places(), Username: a.Username, Password: a.Password, TLSConfig: secure, ClientName: a.text("client_name"),
			Protocol: a.protocol(), DialTimeout: a.span("socket_connect_timeout"), ReadTimeout: a.span("socket_timeout"),
			WriteTimeout: a.span("socket_timeout"), PoolSize: a.number("max_connections"), PoolTimeout: a.patience(),
		}), nil
	case kindSentinel:
		options := &redis.FailoverOptions{
			MasterName: a.Service, SentinelAddrs: a.places(), SentinelUsername: a.text("sentinel_username"),
			SentinelPassword: a.text("sentinel_password"), Username: a.Username, Password: a.Password, DB: a.Db, TLSConfig: secure,
			ClientName: a.text("client_name"), Protocol: a.protocol(), DialTimeout: a.span("socket_connect_timeout"),
			ReadTimeout: a.span("socket_timeout"), WriteTimeout: a.span("socket_timeout"), PoolSize: a.number("max_connections"),
			PoolTimeout: a.patience(),
		}
		client := redis.NewFailoverClient(options)
		explainSentinels(client, options)
		return client, nil
	}
	options := &redis.Options{
		Network: "tcp", Username: a.Username, Password: a.Password, DB: a.Db, TLSConfig: secure, ClientName: a.text("client_name"),
		Protocol: a.protocol(), DialTimeout: a.span("socket_connect_timeout"), ReadTimeout: a.span("socket_timeout"),
		WriteTimeout: a.span("socket_timeout"), PoolSize: a.number("max_connections"), PoolTimeout: a.patience(),
	}
	if a.Kind == kindUnix {
		options.Network, options.Addr = "unix", a.Path
	} else {
		options.Addr = a.places()[0]
	}
	return redis.NewClient(options), nil
}

func (a address) text(name string) string {
	text, _ := a.Options[name].(string)
	return text
}

func (a address) number(name string) int {
	number, _ := a.Options[name].(int)
	return number
}

func (a address) span(name string) time.Duration {
	span, _ := a.Options[name].(time.Duration)
	return span
}

func (a address) patience() time.Duration {
	if given := a.span("timeout"); given > 0 {
		return given
	}
	return poolPatience
}

func (a address) protocol() int {
	number, _ := strconv.Atoi(a.text("protocol")) //nolint:errcheck // then it is go-redis's own
	return number
}

func (a address) places() []string {
	places := make([]string, len(a.Hosts))
	for i, each := range a.Hosts {
		places[i] = net.JoinHostPort(each.Host, strconv.Itoa(each.Port))
	}
	return places
}

// tlsConfig is what the ssl_… options ask for; nil for an address without TLS.
func (a address) tlsConfig() (*tls.Config, error) {
	if !a.Tls {
		return nil, nil
	}
	for _, name := range []string{"ssl_ciphers", "ssl_password"} {
		if a.text(name) != "" {
			return nil, fmt.Errorf("%s is for Python: Go chooses ciphers itself, and reads keys that are not encrypted", name)
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.text("ssl_min_version") == "772" {
		config.MinVersion = tls.VersionTLS13
	}
	var err error
	if config.RootCAs, err = a.authorities(); err != nil {
		return nil, err
	}
	if file := a.text("ssl_certfile"); file != "" {
		key := a.text("ssl_keyfile")
		if key == "" {
			key = file
		}
		certificate, err := tls.LoadX509KeyPair(file, key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	} else if a.text("ssl_keyfile") != "" {
		return nil, errors.New("ssl_keyfile needs ssl_certfile")
	}
	a.setChecks(config)
	return config, nil
}

// setChecks says what has to be right about the server's certificate.
func (a address) setChecks(config *tls.Config) {
	checks, said := a.Options["ssl_check_hostname"].(bool)
	switch {
	case a.text("ssl_cert_reqs") == "none":
		config.InsecureSkipVerify = true
	case said && !checks: // the certificate counts, whatever its name
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error {
			pool := x509.NewCertPool()
			for _, each := range state.PeerCertificates[1:] {
				pool.AddCert(each)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: config.RootCAs, Intermediates: pool})
			return err
		}
	}
}

// authorities are those whose certificates count: the system's, and those that the options name. Nil for the system's alone.
func (a address) authorities() (*x509.CertPool, error) {
	files, data := []string{}, []byte(a.text("ssl_ca_data"))
	if file := a.text("ssl_ca_certs"); file != "" {
		files = append(files, file)
	}
	if folder := a.text("ssl_ca_path"); folder != "" {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			files = append(files, filepath.Join(folder, entry.Name()))
		}
	}
	if len(files) == 0 && len(data) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(data) > 0 && !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("there is no certificate in ssl_ca_data")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(text) && file == a.text("ssl_ca_certs") {
			return nil, fmt.Errorf("there is no certificate in %s", file)
		}
	}
	return pool, nil
}

// explainSentinels lets a client that finds no primary say what each sentinel has answered. go-redis says only what was wrong with some.
func explainSentinels(client *redis.Client, options *redis.FailoverOptions) {
	dialer := client.Options()
	find := dialer.Dialer
	dialer.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		found, err := find(ctx, network, addr)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "sentinel") {
			return found, err
		}
		return nil, fmt.Errorf("no sentinel knows a primary of %q that is up: %s: %w", options.MasterName, askSentinels(ctx, options), err)
	}
}

// askSentinels is what each sentinel says of the primary.
func askSentinels(ctx context.Context, options *redis.FailoverOptions) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sentinelPatience)
	defer cancel()
	says := make([]string, len(options.SentinelAddrs))
	var asked sync.WaitGroup
	for i, addr := range options.SentinelAddrs {
		asked.Go(func() {
			sentinel := redis.NewSentinelClient(&redis.Options{Addr: addr, Username: options.SentinelUsername,
				Password: options.SentinelPassword, TLSConfig: options.TLSConfig, DialTimeout: sentinelPatience,
				ReadTimeout: sentinelPatience, MaxRetries: -1, DialerRetries: 1})
			defer sentinel.Close()
			place, err := sentinel.GetMasterAddrByName(ctx, options.MasterName).Result()
			switch {
			case errors.Is(err, redis.Nil):
				says[i] = addr + " does not know it"
			case err != nil:
				says[i] = addr + " says: " + err.Error()
			default:
				says[i] = addr + " says that it is at " + strings.Join(place, ":")
			}
			if Refused(err) {
				says[i] += " (see sentinel_password: sentinels have a user and a password of their own)"
			}
		})
	}
	asked.Wait()
	return strings.Join(says, "; ")
}

// Refused reports whether Redis (or a sentinel) does not let us in, and would not the next time.
func Refused(err error) bool {
	if err == nil {
		return false
	}
	words := []string{"WRONGPASS", "NOAUTH", "invalid password", "without any password configured", "DB index"}
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(err.Error(), word) })
}

// Told is err, which says what to correct if it is that Redis does not let this client in: which server it is, and never the password.
func Told(client redis.UniversalClient, err error) error {
	if !Refused(err) {
		return err
	}
	return fmt.Errorf("%s does not let us in: %w; correct the user, the password or the database in the URL", whereOf(client), err)
}

// whereOf is where a client looks for Redis, as a URL without password.
func whereOf(client redis.UniversalClient) string {
	switch client := client.(type) {
	case *redis.ClusterClient:
		return "redis+cluster://" + strings.Join(client.Options().Addrs, ",")
	case *redis.Client:
		options := client.Options()
		user := ""
		if options.Username != "" {
			user = options.Username + "@"
		}
		if options.Network == "unix" {
			return fmt.Sprintf("unix://%s%s?db=%d", user, options.Addr, options.DB)
		}
		if options.Addr == failover {
			return "the primary that Sentinel names"
		}
		secure := ""
		if options.TLSConfig != nil {
			secure = "s"
		}
		return fmt.Sprintf("redis%s://%s%s/%d", secure, user, options.Addr, options.DB)
	}
	return "Redis"
}
