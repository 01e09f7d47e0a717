-- Purpose: change a schedule, if it still is as the caller saw it, and enqueue its task for the occurrences that are due.
-- KEYS: queue, noti, cron, cron_due, wake
-- ARGV: name (of the schedule), seen (SHA-1 of the definition that the caller saw, or '' for none), due (the score of the next
--       occurrence that it saw, as Redis gave it, or '' for none), definition (from now on, or '' to remove the schedule), next (its next
--       occurrence from now on, or '' to pause it), task, count (how often to enqueue it)
-- Returns: 1, or 0 if the schedule is not as the caller saw it (nothing has happened)

local definition = redis.call('HGET', KEYS[3], ARGV[1])
local due = redis.call('ZSCORE', KEYS[4], ARGV[1]) or ''
local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[5])
local sooner = not first or (tonumber(ARGV[5]) or 0) < (tonumber(first) or 0)
for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
local seen = definition and redis.sha1hex(definition) or ''
if seen ~= ARGV[2] or (due ~= ARGV[3] and (due == '' or tonumber(due) ~= tonumber(ARGV[3]))) then
    return 0
end
if ARGV[4] == '' then
    redis.call('HDEL', KEYS[3], ARGV[1])
elseif definition ~= ARGV[4] then
    redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
end
if ARGV[5] == '' then
    redis.call('ZREM', KEYS[4], ARGV[1])
else
    redis.call('ZADD', KEYS[4], ARGV[5], ARGV[1])
    if sooner and rings == 0 then
        redis.call('RPUSH', KEYS[5], '1')
    end
end
for _ = 1, ARGV[7] do
    redis.call('RPUSH', KEYS[1], ARGV[6])
    redis.call('RPUSH', KEYS[2], '1')
end
return 1
