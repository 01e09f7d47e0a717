package system

import (
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// HandleSignals takes over the signals of a worker or a sweeper until the function that it returns is called: TERM, INT and HUP call stop,
// a second TERM or INT, or QUIT, calls insist, and USR1 logs the stacks of all goroutines.
func HandleSignals(log *slog.Logger, stop, insist func()) (restore func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1)
	ended := make(chan struct{})
	go func() {
		asked := false
		for {
			select {
			case <-ended:
				return
			case s := <-signals:
				insisting := s == syscall.SIGTERM || s == syscall.SIGINT
				switch {
				case s == syscall.SIGUSR1:
					log.Warn("SIGUSR1", "goroutines", stacks())
				case s == syscall.SIGQUIT || insisting && asked:
					log.Warn("leaving now", "signal", s.String())
					insist()
				default:
					asked = asked || insisting
					log.Info("finishing what runs", "signal", s.String())
					stop()
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(ended)
	}
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}
