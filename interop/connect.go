package delayed

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Connect makes a client for the same URLs as the Python package: `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS),
// `unix://[…@]/path.sock[?db=0]`, each with go-redis's options as query; `redis+sentinel://[[user]:password@]host[:port]
// [,host[:port]…]/service[/db]` for the master that Sentinel names; `redis+cluster://…` (or `rediss+cluster://…`) for any node of a
// cluster. Any other client of go-redis serves as well. The error wraps ErrConfiguration.
func Connect(address string) (redis.UniversalClient, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	var client redis.UniversalClient
	var err error
	switch scheme {
	case "redis+cluster", "rediss+cluster":
		var options *redis.ClusterOptions
		if options, err = redis.ParseClusterURL(strings.TrimSuffix(scheme, "+cluster") + "://" + rest); err == nil {
			client = redis.NewClusterClient(options)
		}
	case "redis+sentinel":
		var options *redis.FailoverOptions
		if options, err = sentinelOptions(rest); err == nil {
			client = redis.NewFailoverClient(options)
		}
	default:
		var options *redis.Options
		if options, err = redis.ParseURL(address); err == nil {
			client = redis.NewClient(options)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the URL does not say where Redis is (%w); write for example redis://localhost:6379/0, rediss://host, "+
			"unix:///run/redis.sock, redis+sentinel://host1,host2/mymaster or redis+cluster://host", ErrConfiguration, err)
	}
	return client, nil
}

// sentinelOptions reads what follows the scheme. net/url refuses several hosts, hence by hand.
func sentinelOptions(rest string) (*redis.FailoverOptions, error) {
	authority, path, _ := strings.Cut(rest, "/")
	service, db, _ := strings.Cut(strings.Trim(path, "/"), "/")
	if service == "" {
		return nil, fmt.Errorf("a Sentinel URL names its service after the hosts")
	}
	options := &redis.FailoverOptions{MasterName: service}
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		var err, err2 error
		options.Username, err = url.PathUnescape(user)
		options.Password, err2 = url.PathUnescape(password)
		if err != nil || err2 != nil {
			return nil, fmt.Errorf("user and password are percent-encoded")
		}
		authority = authority[at+1:]
	}
	for _, host := range strings.Split(authority, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, "26379")
		}
		options.SentinelAddrs = append(options.SentinelAddrs, host)
	}
	if db != "" {
		var err error
		if options.DB, err = strconv.Atoi(db); err != nil {
			return nil, fmt.Errorf("%q is not the number of a database", db)
		}
	}
	return options, nil
}
