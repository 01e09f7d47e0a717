package connect

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/delayedq/delayed/interop/internal/errs"
)

const defaultURL = "redis://localhost:6379/0"

// URLOfEnvironment is where Redis is: the URL in the file that DELAYED_REDIS_URL_FILE names, else DELAYED_REDIS_URL, else REDIS_URL, else
// localhost.
func URLOfEnvironment() (string, error) {
	if path := os.Getenv("DELAYED_REDIS_URL_FILE"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("%w: DELAYED_REDIS_URL_FILE: %w", errs.ErrConfiguration, err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	return cmp.Or(os.Getenv("DELAYED_REDIS_URL"), os.Getenv("REDIS_URL"), defaultURL), nil
}
