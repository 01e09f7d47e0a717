-- Purpose: end a lease by letting its task wait, as it came, for a worker that can run it; each time for longer, up to a minute.
-- KEYS: processing, lost, scheduled, wake, deferred, task (its state, or anything)
-- ARGV: lease, id (16 characters), limit (milliseconds that the task may wait in all), word (what announces it, as for `submit`), cause
-- Returns: {1, pause, age}: it waits for so many milliseconds, and has waited for so long in all; {2, 0, age}: it has waited for
--          too long, and nothing has happened; {0}: the lease does not hold a task any more

local MOST, LONGEST, DAY = 100000, 60000, 86400000
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[4])
local notes = redis.call('HLEN', KEYS[5])
redis.call('HLEN', KEYS[2])
local tracked = redis.call('TYPE', KEYS[6])['ok'] == 'hash'
local task = redis.call('HGET', KEYS[1], ARGV[1])
if not task then
    return {0}
end
local name, limit = redis.sha1hex(task), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local since, last, count = string.match(redis.call('HGET', KEYS[5], name) or '', '^(%d+):(%d+):(%d+)$')
since, last, count = tonumber(since), tonumber(last), tonumber(count)
if not since or now - last > limit + 10 * LONGEST then -- another time
    since, count = now, 0
end
if now - since >= limit then
    redis.call('HDEL', KEYS[5], name)
    return {2, 0, now - since}
end
redis.call('HDEL', KEYS[1], ARGV[1]) -- first, as it frees memory: Redis then lets the rest happen though its memory is full
redis.call('HDEL', KEYS[2], name)
local pause, known = math.min(1000 * 2 ^ math.min(count, 10), LONGEST), redis.call('HEXISTS', KEYS[5], name) == 1
if known or notes < MOST then
    redis.call('HSET', KEYS[5], name, string.format('%.0f:%.0f:%d', since, now, count + 1))
    redis.call('PEXPIRE', KEYS[5], DAY)
else
    pause = LONGEST
end
local due = now + pause
local waits = (ARGV[4] == '1' and '' or ':' .. ARGV[4]) .. task -- in the schedule, with what says whose group's it is
redis.call('ZADD', KEYS[3], due, ARGV[2] .. waits)
if (not first or due < tonumber(first)) and rings == 0 then
    redis.call('RPUSH', KEYS[4], '1')
end
if tracked then
    redis.call('HSET', KEYS[6], 'state', 'scheduled', 'due', due, 'waits', ARGV[5], 'data', waits)
end
return {1, pause, now - since}
