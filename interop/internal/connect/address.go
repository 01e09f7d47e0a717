package connect

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/delayedq/delayed/interop/internal/errs"
)

// The kinds of an address.
const (
	kindServer   = "server"
	kindUnix     = "unix"
	kindSentinel = "sentinel"
	kindCluster  = "cluster"
)

// address is what a URL says of where Redis is. Python has the same grammar, and tests/vectors/addresses.json is for both. No error
// shows a password: the URL is read by hand, as libraries quote what they could not read.
type address struct {
	Kind               string
	Tls                bool
	Hosts              []hostPort
	Path, Service      string // of a Unix socket; what Sentinel calls the primary
	Db                 int
	Username, Password string
	Options            map[string]any // under redis-py's names: string, int, bool, or time.Duration
}

type hostPort struct {
	Host string
	Port int
}

type scheme struct {
	kind string
	tls  bool
	port int
}

var schemes = map[string]scheme{
	"redis": {kindServer, false, 6379}, "rediss": {kindServer, true, 6379}, "unix": {kindUnix, false, 0},
	"redis+sentinel": {kindSentinel, false, 26379}, "rediss+sentinel": {kindSentinel, true, 26379},
	"redis+cluster": {kindCluster, false, 6379}, "rediss+cluster": {kindCluster, true, 6379},
}

const (
	addressExamples = "write for example redis://localhost:6379/0, rediss://host, unix:///run/redis.sock, " +
		"redis+sentinel://host1,host2/mymaster or redis+cluster://host"
	addressEscapes = "`#`, `/`, `?`, `@` and `%` in a user, a password or a value are written %23, %2F, %3F, %40 and %25"
)

var (
	hostName    = regexp.MustCompile("^[^\\x00-\\x20\\x7f\"'<>\\\\^`{|}\\[\\]/?#@%:,]+$")
	shownHost   = regexp.MustCompile(`^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?$`)
	numeral     = regexp.MustCompile(`^\d{1,9}$`)
	decimals    = regexp.MustCompile(`^\d{1,9}(?:\.\d{1,9})?$`)
	wrongEscape = regexp.MustCompile(`%(?:[^0-9A-Fa-f]|[0-9A-Fa-f][^0-9A-Fa-f]|.?$)`)
	optionName  = regexp.MustCompile(`^[a-z_]{1,40}$`)
)

// wrongAddress is why a URL is none of ours; it quotes nothing that might be a password.
type wrongAddress string

func (w wrongAddress) Error() string { return string(w) }

func wrongf(format string, args ...any) error { return wrongAddress(fmt.Sprintf(format, args...)) }

// Read is what a URL says. The error wraps errConfiguration, and nothing else.
func Read(text string) (address, error) {
	found, err := parseAddress(text)
	if err != nil {
		err = fmt.Errorf("%w: %s does not say where Redis is: %s; %s", errs.ErrConfiguration, shownAddress(text), err.Error(), addressExamples)
	}
	return found, err
}

// shownAddress is as much of a URL that may be wrong anywhere as cannot be a password.
func shownAddress(text string) string {
	name, rest, _ := strings.Cut(text, "://")
	if _, known := schemes[strings.ToLower(name)]; !known {
		return "the address of Redis"
	}
	tail, hidden := rest, ""
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		tail, hidden = rest[at+1:], "***@"
	}
	if end := strings.IndexAny(tail, "/?#"); end >= 0 {
		tail = tail[:end]
	}
	hosts := strings.Split(tail, ",")
	for i, host := range hosts {
		if hidden == "" && !strings.HasPrefix(host, "[") { // what looks like a port may be a password whose host was forgotten
			hosts[i], _, _ = strings.Cut(host, ":")
		}
		if !shownHost.MatchString(hosts[i]) {
			return name + "://" + hidden + "…"
		}
	}
	return name + "://" + hidden + strings.Join(hosts, ",")
}

func parseAddress(text string) (found address, err error) {
	name, rest, there := strings.Cut(text, "://")
	how, known := schemes[strings.ToLower(name)]
	switch {
	case strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "'"):
		return found, wrongf("there are quotes around it")
	case !there || !known:
		return found, wrongf("it does not begin with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, " +
			"rediss+cluster://")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return found, wrongf("there is a space or a line break in it")
	}
	authority, path := rest, ""
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority, path = rest[:end], rest[end:]
	}
	path, query, _ := strings.Cut(path, "?")
	if strings.Contains(text, "#") || strings.Contains(query, "@") ||
		strings.Contains(path, "@") && (how.kind != kindUnix || authority != "") {
		return found, wrongAddress(addressEscapes)
	}
	hosts, user, password := authority, "", ""
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		hosts = authority[at+1:]
		user, password, _ = strings.Cut(authority[:at], ":")
	}
	found.Kind, found.Tls = how.kind, how.tls
	if found.Options, err = readOptions(query, how); err != nil {
		return found, err
	}
	return found, found.complete(path, user, password, hosts, how)
}

// complete reads the rest of an address whose options are known.
func (a *address) complete(path, user, password, hosts string, how scheme) error {
	number, err := a.readPath(path)
	if err != nil {
		return err
	}
	db, given := a.Options["db"].(int)
	delete(a.Options, "db")
	switch {
	case given && number >= 0 && db != number:
		return wrongf("it names two databases")
	case given:
		a.Db = db
	default:
		a.Db = max(number, 0)
	}
	if a.Kind == kindCluster && a.Db != 0 {
		return wrongf("a cluster has one database, 0")
	}
	if a.Username, err = a.once("username", user); err != nil {
		return err
	}
	if a.Password, err = a.once("password", password); err != nil {
		return err
	}
	if a.Username != "" && a.Password == "" {
		return wrongf("a user has a password: user:password@ (a password alone is written :password@)")
	}
	a.Hosts, err = readHosts(hosts, how)
	return err
}

func (a *address) once(name, beforeHost string) (string, error) {
	given, _ := a.Options[name].(string)
	delete(a.Options, name)
	beforeHost, err := unescape(beforeHost)
	switch {
	case err != nil:
		return "", err
	case given != "" && beforeHost != "":
		return "", wrongf("it gives the %s twice", name)
	case given != "":
		return given, nil
	}
	return beforeHost, nil
}

func unescape(text string) (string, error) {
	if wrongEscape.MatchString(text) {
		return "", wrongAddress(addressEscapes)
	}
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			out = append(out, text[i])
			continue
		}
		value, _ := strconv.ParseUint(text[i+1:i+3], 16, 8) //nolint:errcheck // they are two digits
		out = append(out, byte(value))
		i += 2
	}
	if !utf8.Valid(out) || slices.Contains(out, 0) {
		return "", wrongf("what is written with %% in it is not UTF-8")
	}
	return string(out), nil
}

func readHosts(text string, how scheme) ([]hostPort, error) {
	if how.kind == kindUnix {
		if text != "" {
			return nil, wrongf("the path of a socket is absolute: unix:///path")
		}
		return nil, nil
	}
	hosts := strings.Split(text, ",")
	if how.kind == kindServer && len(hosts) > 1 {
		return nil, wrongf("it names several hosts: redis+sentinel:// and redis+cluster:// have several")
	}
	var found []hostPort
	for _, host := range hosts {
		one, err := readHost(host, how)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

func readHost(text string, how scheme) (hostPort, error) {
	var name, port string
	var err error
	if inside, bracketed := strings.CutPrefix(text, "["); bracketed {
		inside, rest, closed := strings.Cut(inside, "]")
		if name, err = unescape(inside); err != nil {
			return hostPort{}, err
		}
		ip, wrong := netip.ParseAddr(name)
		if !closed || wrong != nil || !ip.Is6() || rest != "" && rest[0] != ':' {
			return hostPort{}, wrongf("what stands in brackets is an IPv6 address: [::1] or [::1]:6379")
		}
		port = strings.TrimPrefix(rest, ":")
	} else {
		name, port, _ = strings.Cut(text, ":")
		if strings.Contains(port, ":") {
			return hostPort{}, wrongf("an IPv6 address stands in brackets: [::1]")
		}
		if name, err = unescape(name); err != nil {
			return hostPort{}, err
		}
		if name == "" && how.kind == kindServer {
			name = "localhost"
		}
		if !hostName.MatchString(name) {
			return hostPort{}, wrongf("one of its hosts is missing or no name")
		}
	}
	if port == "" {
		return hostPort{name, how.port}, nil
	}
	number, _ := strconv.Atoi(port) //nolint:errcheck // then it is 0
	if !numeral.MatchString(port) || number < 1 || number > 65535 {
		return hostPort{}, wrongf("a port is a number from 1 to 65535")
	}
	return hostPort{name, number}, nil
}

// readPath is the number of the database that a path names, or -1.
func (a *address) readPath(path string) (number int, err error) {
	if a.Kind == kindUnix {
		if a.Path, err = unescape(path); err == nil && len(a.Path) < 2 {
			err = wrongf("it names no socket: unix:///path")
		}
		return -1, err
	}
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")[1:]
	if a.Kind == kindSentinel {
		if len(parts) == 0 || parts[0] == "" {
			return -1, wrongf("a Sentinel URL names its service after the hosts")
		}
		if a.Service, err = unescape(parts[0]); err != nil {
			return -1, err
		}
		parts = parts[1:]
	}
	switch len(parts) {
	case 0:
		return -1, nil
	case 1:
		return readNumber(parts[0], "a database", 0)
	}
	return -1, wrongf("nothing follows the number of the database")
}

func readNumber(text, what string, least int) (int, error) {
	number, _ := strconv.Atoi(text) //nolint:errcheck // then it is 0
	if numeral.MatchString(text) && number >= least {
		return number, nil
	}
	if least > 0 {
		return -1, wrongf("%s is a whole number, at least %d", what, least)
	}
	return -1, wrongf("%s is a whole number", what)
}

func readOptions(query string, how scheme) (map[string]any, error) {
	found := map[string]any{}
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
		name, text, equals := strings.Cut(pair, "=")
		read, known := addressOptions[name]
		switch {
		case !known && (strings.Contains(query, "password") || !optionName.MatchString(name)): // it may be a piece of one
			return nil, wrongf("it has an option that there is not")
		case !known:
			return nil, wrongf("there is no option '%s'", name)
		case !equals || text == "":
			return nil, wrongf("%s has no value", name)
		case found[name] != nil:
			return nil, wrongf("it gives %s twice", name)
		case strings.HasPrefix(name, "ssl_") && !how.tls:
			return nil, wrongf("%s is for addresses that begin with rediss", name)
		case strings.HasPrefix(name, "sentinel_") && how.kind != kindSentinel:
			return nil, wrongf("%s is for redis+sentinel:// and rediss+sentinel://", name)
		}
		text, err := unescape(strings.ReplaceAll(text, "+", " "))
		if err == nil {
			found[name], err = read(text, name)
		}
		if err != nil {
			return nil, err
		}
	}
	if found["sentinel_username"] != nil && found["sentinel_password"] == nil {
		return nil, wrongf("sentinel_username needs sentinel_password")
	}
	return found, nil
}

type readOption func(text, name string) (any, error)

func readText(text, _ string) (any, error) { return text, nil }

func readFlag(text, name string) (any, error) {
	switch strings.ToLower(text) {
	case "1", "t", "true", "y", "yes", "on":
		return true, nil
	case "0", "f", "false", "n", "no", "off":
		return false, nil
	}
	return nil, wrongf("%s is true or false", name)
}

func readSeconds(text, name string) (any, error) {
	number, _ := strconv.ParseFloat(text, 64) //nolint:errcheck // then it is 0
	if !decimals.MatchString(text) || number <= 0 {
		return nil, wrongf("%s is a number of seconds above 0", name)
	}
	return time.Duration(number * float64(time.Second)), nil
}

func readCount(least int) readOption {
	return func(text, name string) (any, error) { return readNumber(text, name, least) }
}

func readWord(words ...string) readOption {
	return func(text, name string) (any, error) {
		if slices.Contains(words, text) {
			return text, nil
		}
		return nil, wrongf("%s is one of %s", name, strings.Join(words, ", "))
	}
}

var addressOptions = map[string]readOption{
	"db": readCount(0), "username": readText, "password": readText, "sentinel_username": readText, "sentinel_password": readText,
	"client_name": readText, "protocol": readWord("2", "3"), "socket_timeout": readSeconds, "socket_connect_timeout": readSeconds,
	"socket_keepalive": readFlag, "socket_read_size": readCount(1), "health_check_interval": readCount(0), "retry_on_timeout": readFlag,
	"max_connections": readCount(1), "timeout": readSeconds, "decode_responses": readFlag, "encoding": readText,
	"encoding_errors": readText, "ssl_ca_certs": readText, "ssl_ca_path": readText, "ssl_ca_data": readText, "ssl_certfile": readText,
	"ssl_keyfile": readText, "ssl_password": readText, "ssl_cert_reqs": readWord("none", "optional", "required"),
	"ssl_check_hostname": readFlag, "ssl_min_version": readWord("771", "772"), "ssl_ciphers": readText,
}
