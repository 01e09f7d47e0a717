package system

import "log/slog"

// WarnOfOrphans says at the start what process 1 of a container has to do, and this worker does not.
func WarnOfOrphans(log *slog.Logger, pid int) {
	if pid == 1 {
		log.Warn("this worker is process 1 here, which has to reap what its tasks leave behind, and does not: they stay as zombies; " +
			"start the container with an init (docker run --init)")
	}
}
