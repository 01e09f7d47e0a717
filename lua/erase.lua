-- Purpose: erase a tracked task that has ended: its state, and what it has returned.
-- KEYS: task
-- ARGV: none
-- Returns: the state in which it was, or '' if none is known; nothing has happened if that is none of a task that has ended. Of a
--          cancelled one it stays known that it is: it may still stand in its queue, where a worker shall pass it over

local ENDED = {succeeded = true, failed = true, expired = true}

local state = redis.call('HGET', KEYS[1], 'state')
-- All keys have been read: writes begin here.
if ENDED[state] then redis.call('DEL', KEYS[1]) end
if state == 'cancelled' then redis.call('HDEL', KEYS[1], 'result', 'error', 'progress', 'log') end
return state or ''
