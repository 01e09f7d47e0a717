-- Purpose: end a lease by letting its task wait again, as `data`, from now or for some time.
-- KEYS: queue (or a group's list), noti (or groups), processing, lost, scheduled, wake, task
-- ARGV: lease, data (the task as it shall wait), id (16 characters), delay (milliseconds, or 0), state (of a tracked task,
--       '' for others: 'retrying', or 'scheduled' if it has not begun), error (what the attempt said last, or why it waits), word (what announces it, as for `submit`)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[6])
redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[4])
-- A key of the task's or the group's own that has a foreign type is left alone, as the lease has to end. A task that has not got
-- the list of its group goes by the schedule, from which it comes to the queue.
local tail, tracked = redis.call('TYPE', KEYS[1])['ok'], redis.call('TYPE', KEYS[7])['ok'] == 'hash'
local listless = ARGV[7] ~= '1' and tail ~= 'list' and tail ~= 'none'
local others = not listless and redis.call('LLEN', KEYS[1])
local task = redis.call('HGET', KEYS[3], ARGV[1])
if not task then
    return 0
end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], redis.sha1hex(task))
local clock = redis.call('TIME')
local due = clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[4]
local waits = (ARGV[7] == '1' and '' or ':' .. ARGV[7]) .. ARGV[2] -- in the schedule, with what says whose group's it is
if tonumber(ARGV[4]) > 0 or listless then
    redis.call('ZADD', KEYS[5], due, ARGV[3] .. waits)
    if (not first or due < tonumber(first)) and rings == 0 then
        redis.call('RPUSH', KEYS[6], '1')
    end
else
    redis.call('RPUSH', KEYS[1], ARGV[2])
    if ARGV[7] == '1' or others == 0 then
        redis.call('RPUSH', KEYS[2], ARGV[7])
    end
end
if ARGV[5] ~= '' and tracked then
    redis.call('HSET', KEYS[7], 'state', ARGV[5], 'due', due, ARGV[5] == 'retrying' and 'error' or 'waits', ARGV[6], 'data', waits)
end
return 1
