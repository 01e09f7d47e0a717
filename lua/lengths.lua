-- Purpose: count the waiting tasks and the notifications in one instant.
-- KEYS: queue, noti
-- ARGV: none
-- Returns: {waiting tasks, notifications}

return {redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2])}
