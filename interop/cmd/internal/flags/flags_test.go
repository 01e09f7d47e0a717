package flags

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAddressOfRedis(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("redis://file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REDIS_URL", "redis://other")
	t.Setenv("DELAYED_REDIS_URL", "redis://ours")
	for _, c := range []struct{ address, file, want string }{
		{"redis://given", file, "redis://given"}, {"", file, "redis://file"}, {"", "", "redis://ours"},
	} {
		t.Setenv("DELAYED_REDIS_URL_FILE", c.file)
		if got, err := urlOf(c.address); got != c.want || err != nil {
			t.Errorf("%q, %q: %q, %v", c.address, c.file, got, err)
		}
	}
	t.Setenv("DELAYED_REDIS_URL_FILE", file+"x")
	if _, err := urlOf(""); err == nil || !strings.Contains(err.Error(), "DELAYED_REDIS_URL_FILE") {
		t.Error(err)
	}
}
