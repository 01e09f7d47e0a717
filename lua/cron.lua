-- Purpose: change a schedule, if it still is as the caller saw it, and enqueue its task for the occurrences that are due.
-- KEYS: queue, noti, cron, cron_due, wake
-- ARGV: name (of the schedule), seen (SHA-1 of the definition that the caller saw, or '' for none), due (the score of the next
--       occurrence that it saw, as Redis gave it, or '' for none), definition (from now on, or '' to remove the schedule), next (its next
--       occurrence from now on, or '' to pause it), task, count (how often to enqueue it)
-- Returns: 1, or 0 if the schedule is not as the caller saw it (nothing has happened)

local name, seen, due, definition, next, task, count = unpack(ARGV, 1, 7)

local found = redis.call('HGET', KEYS[3], name)
local score = redis.call('ZSCORE', KEYS[4], name) or ''
local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[5])
local sooner = not first or (tonumber(next) or 0) < (tonumber(first) or 0)
for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
if (found and redis.sha1hex(found) or '') ~= seen or (score ~= due and (score == '' or tonumber(score) ~= tonumber(due))) then
    return 0
end
-- All keys have been read: writes begin here.
if definition == '' then
    redis.call('HDEL', KEYS[3], name)
elseif found ~= definition then
    redis.call('HSET', KEYS[3], name, definition)
end
if next == '' then
    redis.call('ZREM', KEYS[4], name)
else
    redis.call('ZADD', KEYS[4], next, name)
    if sooner and rings == 0 then
        redis.call('RPUSH', KEYS[5], '1')
    end
end
for _ = 1, count do
    redis.call('RPUSH', KEYS[1], task)
    redis.call('RPUSH', KEYS[2], '1')
end
return 1
