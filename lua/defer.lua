-- Purpose: end a lease whose task cannot run here now, and may elsewhere or later: it waits, unchanged, and each time for longer.
-- KEYS: processing, lost, scheduled, wake, deferred, task, unique (what it has only while it runs), slots
-- ARGV: lease, id (16 characters: of a tracked task, or of no meaning), tracked (1 for a tracked task), limit (milliseconds from the
--       first time on after which it does not wait any more), word (what announces it, as for `submit`), cause (why it waits)
-- Returns: {1, pause, age} (milliseconds until it is tried again, and since it was deferred first); {2, 0, age} if the time is over:
--          nothing has happened; {0} if the lease does not hold a task any more (the caller was superseded)

local FIRST, LONGEST, FORGOTTEN = 1000, 60000, 660000 -- milliseconds: of a pause, and after which it is the first time again
local MOST, KEEP = 100000, 86400 -- notes, and seconds that they are kept
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local rings, notes = redis.call('LLEN', KEYS[4]), redis.call('HLEN', KEYS[5])
redis.call('HLEN', KEYS[2])
local function ours(i, kind) return redis.call('TYPE', KEYS[i])['ok'] == kind end
local task = redis.call('HGET', KEYS[1], ARGV[1])
if not task then
    return {0}
end
local digest, clock = redis.sha1hex(task), redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local note = redis.call('HGET', KEYS[5], digest)
local since, last, count = string.match(note or '', '^(%d+):(%d+):(%d+)$')
if not since or now - last > FORGOTTEN then
    since, last, count = now, 0, 0
end
local age = math.max(0, now - since)
if age >= tonumber(ARGV[4]) then
    return {2, 0, age}
end
local pause = math.min(LONGEST, FIRST * 2 ^ math.min(count, 10))
if now - last >= pause / 4 then count = count + 1 end -- tasks of the same bytes, which come together, count once
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], digest)
if ours(7, 'string') and redis.call('GET', KEYS[7]) == ARGV[2] then redis.call('DEL', KEYS[7]) end
if ours(8, 'hash') then redis.call('HDEL', KEYS[8], ARGV[1]) end
if note or notes < MOST then
    redis.call('HSET', KEYS[5], digest, string.format('%.0f:%.0f:%d', since, now, count))
    redis.call('EXPIRE', KEYS[5], KEEP)
else
    pause = LONGEST
end
local due, waits = now + pause, (ARGV[5] == '1' and '' or ':' .. ARGV[5]) .. task
redis.call('ZADD', KEYS[3], due, ARGV[2] .. waits)
if (not first or due < tonumber(first)) and rings == 0 then redis.call('RPUSH', KEYS[4], '1') end
if ARGV[3] == '1' and ours(6, 'hash') then
    redis.call('HSET', KEYS[6], 'state', 'scheduled', 'due', due, 'waits', ARGV[6], 'data', waits)
end
return {1, pause, age}
