-- Purpose: store that a tracked task has failed which a sweep has buried, for those who wait for it, and free its unique key.
-- KEYS: dead, task, result, unique
-- ARGV: letter (its id in the stream), id (of the task), result (what those who wait are told), keep (milliseconds that this is
--       kept)
-- Returns: 1, or 0 if there was nobody to tell: the letter is gone, or the task has ended before, or is not known any more

local OPEN = {queued = 1, scheduled = 1, running = 1, retrying = 1}

local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
-- A key that has a foreign type is left alone: sweeps go on.
local ours = {}
for i, kind in ipairs({'hash', 'list', 'string'}) do
    local found = redis.call('TYPE', KEYS[i + 1])['ok']
    ours[i] = found == kind or found == 'none'
end
local state = ours[1] and redis.call('HGET', KEYS[2], 'state')
local owner = ours[3] and redis.call('GET', KEYS[4])
if not letter then
    return 0
end
if owner == ARGV[2] then
    redis.call('DEL', KEYS[4])
end
if not state or not OPEN[state] then
    return 0
end
redis.call('HSET', KEYS[2], 'state', 'failed', 'error', 'lost')
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if ours[2] then
    redis.call('DEL', KEYS[3])
    redis.call('RPUSH', KEYS[3], ARGV[3])
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
return 1
