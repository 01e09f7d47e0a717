// Package system is what a process has to do with its operating system: signals, and the service manager.
package system

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// ServiceManager tells the service manager that started this process how it is (systemd's Type=notify): newline-separated assignments in a
// datagram to the socket that NOTIFY_SOCKET names, as sd_notify(3) says. Without NOTIFY_SOCKET it does nothing.
type ServiceManager struct {
	address  string
	watchdog time.Duration // after which the manager kills a service that has not called alive; 0 = never
	log      *slog.Logger
}

func NewServiceManager(log *slog.Logger) *ServiceManager {
	n := &ServiceManager{address: os.Getenv("NOTIFY_SOCKET"), log: log}
	pid := os.Getenv("WATCHDOG_PID")
	if n.address != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		microseconds, _ := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64) //nolint:errcheck // then it is 0
		n.watchdog = time.Duration(microseconds) * time.Microsecond
	}
	return n
}

func (n *ServiceManager) send(assignments ...string) {
	if n == nil || n.address == "" {
		return
	}
	c, err := net.Dial("unixgram", n.address) // which knows that a leading @ stands for the NUL of an abstract socket
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second)) //nolint:errcheck // it is new
		_, err = c.Write([]byte(strings.Join(assignments, "\n")))
	}
	if err != nil {
		n.log.Warn("could not notify the service manager", "error", err)
	}
}

// ready: we take tasks from now on.
func (n *ServiceManager) Ready(status string) { n.send("READY=1", "STATUS="+status) }

// stopping: we have begun to stop.
func (n *ServiceManager) Stopping(status string) { n.send("STOPPING=1", "STATUS="+status) }

// alive: the watchdog may wait for another period.
func (n *ServiceManager) Alive() { n.send("WATCHDOG=1") }

// Feeding is how often alive should be called: a channel that never fires if nobody watches.
func (n *ServiceManager) Feeding() (ticks <-chan time.Time, stop func()) {
	if n == nil || n.watchdog <= 0 {
		return nil, func() {}
	}
	ticker := time.NewTicker(max(n.watchdog/2, time.Millisecond))
	return ticker.C, ticker.Stop
}
