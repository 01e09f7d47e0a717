-- Purpose: put one task that asks for more than a place at the tail into its queue: later, tracked, or unique.
-- KEYS: queue (or a group's list), noti (or groups), scheduled, wake, task, unique, request (which need not be given: of an
--       enqueue that may be said again)
-- ARGV: data (the task), id (16 characters: of the task, or of no meaning), due (milliseconds since 1970, or 0), delay
--       (milliseconds from now, or 0), tracked (milliseconds that its state is kept, or 0), bound (milliseconds that the unique
--       key stays taken, or 0 for a task that does not take it now), word (what announces it: '1', or the digest of its group, which
--       stands once in the rotation), remembered (milliseconds for which `request` is kept, or nothing)
-- Returns: {state, id}: 'queued', 'first' (of its group: it may be its turn now), 'scheduled', 'duplicate' (id is the other
--          task's, nothing has happened), or 'known' (a task of
--          this id is there already, or the request was carried out: the enqueue was said twice; id is then the one of that time, or
--          empty if it is not known)

local data, id, due, delay, tracked, bound, word, remembered = unpack(ARGV, 1, 8)

tracked, bound = tonumber(tracked), tonumber(bound)
local known = remembered and redis.call('EXISTS', KEYS[7]) == 1 and 7
local other = bound > 0 and redis.call('GET', KEYS[6])
if not known and other and other ~= id then
    return {'duplicate', other}
end
known = known or tracked > 0 and redis.call('HLEN', KEYS[5]) > 0 and 5
local left = known and redis.call('PTTL', KEYS[known])
local is_told = known == 7 and redis.call('TYPE', KEYS[7])['ok'] == 'string' -- else a request for many tasks wrote it
local told = is_told and redis.call('GET', KEYS[7])
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[4])
redis.call('LLEN', KEYS[2])
local others = redis.call('LLEN', KEYS[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local waits = (word == '1' and '' or ':' .. word) .. data -- in the schedule, with what says whose group's it is
due = tonumber(due) + (tonumber(delay) > 0 and now + delay or 0)
local state = due > now and 'scheduled' or 'queued'
-- All keys have been read: writes begin here.
if known then -- once more, unchanged: who waits for a disk or a replica waits for what his own connection has written
    if left > 0 then redis.call('PEXPIRE', KEYS[known], left) end
    return {'known', known == 7 and (told or '') or id}
end
if state == 'scheduled' then
    redis.call('ZADD', KEYS[3], due, id .. waits)
    if (not first or due < tonumber(first)) and rings == 0 then
        redis.call('RPUSH', KEYS[4], '1')
    end
else
    if word == '1' or others == 0 then
        redis.call('RPUSH', KEYS[2], word)
    end
    redis.call('RPUSH', KEYS[1], data)
end
if tracked > 0 then
    redis.call('HSET', KEYS[5], 'state', state, 'due', due, 'enqueued', now)
    if state == 'scheduled' then
        redis.call('HSET', KEYS[5], 'data', waits)
    end
    if bound > 0 then
        redis.call('HSET', KEYS[5], 'unique', KEYS[6])
    end
    redis.call('PEXPIRE', KEYS[5], math.max(tracked, due - now + tracked))
end
if bound > 0 then
    redis.call('SET', KEYS[6], id, 'PX', math.max(bound, due - now + bound))
end
if remembered then
    redis.call('SET', KEYS[7], id, 'PX', remembered)
end
return {state == 'queued' and word ~= '1' and others == 0 and 'first' or state, id}
