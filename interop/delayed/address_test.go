package delayed

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/connect"
	"github.com/redis/go-redis/v9"
)

type addressMeans struct {
	Kind, Path, Service, Username, Password string
	TLS                                     bool
	Hosts                                   [][]any
	DB                                      int
	Options                                 map[string]any
}

func addressVectors(t *testing.T) (accepted []struct {
	URL   string
	Means addressMeans
}, refused []struct{ URL, Says, Secret string }) {
	t.Helper()
	text, err := os.ReadFile("../../tests/vectors/addresses.json")
	must(t, err)
	file := struct{ Accepted, Refused any }{&accepted, &refused}
	must(t, json.Unmarshal(text, &file))
	return accepted, refused
}

// addressShown is a value of an option as both languages write it.
func addressShown(value any) string {
	if span, ok := value.(time.Duration); ok {
		value = span.Seconds()
	}
	return fmt.Sprint(value)
}

func TestAddressesMeanTheSameInBothLanguages(t *testing.T) {
	accepted, _ := addressVectors(t)
	for _, vector := range accepted {
		a, err := connect.Read(vector.URL)
		must(t, err)
		want := vector.Means
		var hosts [][]any
		for _, each := range a.Hosts {
			hosts = append(hosts, []any{each.Host, float64(each.Port)})
		}
		got := fmt.Sprint(a.Kind, a.Tls, hosts, a.Path, a.Service, a.Db, a.Username, a.Password, len(a.Options))
		if expected := fmt.Sprint(want.Kind, want.TLS, want.Hosts, want.Path, want.Service, want.DB, want.Username, want.Password,
			len(want.Options)); got != expected {
			t.Errorf("%s: %s, not %s", vector.URL, got, expected)
		}
		for name, value := range want.Options {
			if addressShown(a.Options[name]) != addressShown(value) {
				t.Errorf("%s: %s is %v", vector.URL, name, a.Options[name])
			}
		}
	}
}

func TestWhatIsNoAddressIsRefusedAndShowsNoPassword(t *testing.T) {
	_, refused := addressVectors(t)
	for _, vector := range refused {
		_, err := Connect(vector.URL)
		if !errors.Is(err, ErrConfiguration) || !strings.Contains(err.Error(), vector.Says) {
			t.Errorf("%q: %v", vector.URL, err)
			continue
		}
		for ; err != nil && vector.Secret != ""; err = errors.Unwrap(err) {
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), vector.Secret) {
				t.Errorf("%q shows it: %#v", vector.URL, err)
			}
		}
	}
}

func TestAClientGetsWhatTheAddressSays(t *testing.T) {
	client, err := Connect("redis://user:pw@[::1]:7/2?socket_timeout=0.5&socket_connect_timeout=2&max_connections=9&timeout=7&protocol=2&client_name=x")
	must(t, err)
	o := client.(*redis.Client).Options()
	got := fmt.Sprint(o.Addr, o.DB, o.Username, o.Password, o.ReadTimeout, o.WriteTimeout, o.DialTimeout, o.PoolSize, o.PoolTimeout, o.Protocol,
		o.ClientName, o.TLSConfig == nil)
	if want := "[::1]:7 2 userpw500ms 500ms 2s 9 7s 2x true"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Error(got)
	}
	client, err = Connect("rediss+cluster://one,two:7?max_connections=3")
	must(t, err)
	if c := client.(*redis.ClusterClient).Options(); fmt.Sprint(c.Addrs, c.PoolSize, c.PoolTimeout, c.TLSConfig != nil) !=
		"[one:6379 two:7] 3 20s true" {
		t.Error(c.Addrs, c.PoolSize)
	}
}

func TestCertificatesThatCannotBeUsedAreSaidAtOnce(t *testing.T) {
	for options, says := range map[string]string{
		"ssl_ca_certs=/no/such/file":               "no such file",
		"ssl_ca_certs=address_test.go":             "no certificate in address_test.go",
		"ssl_ca_data=nonsense":                     "no certificate in ssl_ca_data",
		"ssl_keyfile=/k.pem":                       "ssl_keyfile needs ssl_certfile",
		"ssl_certfile=/no/such/file":               "no such file",
		"ssl_certfile=/c.pem&ssl_password=hunter2": "keys that are not encrypted",
		"ssl_ciphers=ECDHE":                        "is for Python",
	} {
		_, err := Connect("rediss://h?" + options)
		if !errors.Is(err, ErrConfiguration) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", options, err)
		}
	}
}
