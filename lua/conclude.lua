-- Purpose: end a lease for good when its task is tracked: its state and result are stored, its unique key is free, and a task
--          that did not succeed becomes a dead letter.
-- KEYS: processing, lost, dead, task, result, unique
-- ARGV: lease, id (of the task), state (how it ended), result (what those who wait are told), keep (milliseconds that this is
--       kept, or 0), reason (of the dead letter, or '' for none), detail, worker (who ends it), error (what a task that failed
--       said, or '')
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
-- A key of the task's own that has a foreign type is left alone: else no worker could ever end the lease.
local ours = {}
for i, kind in ipairs({'hash', 'list', 'string'}) do
    local found = redis.call('TYPE', KEYS[i + 3])['ok']
    ours[i] = found == kind or found == 'none'
end
local owner = ours[3] and redis.call('GET', KEYS[6])
local task = redis.call('HGET', KEYS[1], ARGV[1])
if not task then
    return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], redis.sha1hex(task))
if ours[2] then
    redis.call('DEL', KEYS[5])
end
if owner == ARGV[2] then
    redis.call('DEL', KEYS[6])
end
if ARGV[6] ~= '' then
    redis.call('XADD', KEYS[3], '*', 'task', task, 'reason', ARGV[6], 'detail', ARGV[7], 'worker', ARGV[8])
end
if ours[1] and tonumber(ARGV[5]) > 0 then
    redis.call('HSET', KEYS[4], 'state', ARGV[3], 'worker', ARGV[8])
    if ARGV[9] ~= '' then
        redis.call('HSET', KEYS[4], 'error', ARGV[9])
    end
    redis.call('PEXPIRE', KEYS[4], ARGV[5])
elseif ours[1] then
    redis.call('DEL', KEYS[4])
end
if ours[2] and tonumber(ARGV[5]) > 0 then
    redis.call('RPUSH', KEYS[5], ARGV[4])
    redis.call('PEXPIRE', KEYS[5], ARGV[5])
end
return 1
