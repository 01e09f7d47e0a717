-- Purpose: let a task run beside few enough others with its key.
-- KEYS: processing, slots (of the key)
-- ARGV: lease, limit (tasks with the key that run at once), keep (milliseconds that the slots are remembered)
-- Returns: 1; 0 if the lease does not hold a task any more; 2 if there is no free slot

-- A slot is a lease and the SHA-1 of the task that runs under it. It is free again when the lease does not hold that task any more,
-- however that came.
local task = redis.call('HGET', KEYS[1], ARGV[1])
local slots = redis.call('HGETALL', KEYS[2])
if not task then
    return 0
end
local taken = 0
for i = 1, #slots, 2 do
    local other = redis.call('HGET', KEYS[1], slots[i])
    if slots[i] == ARGV[1] or not other or redis.sha1hex(other) ~= slots[i + 1] then
        redis.call('HDEL', KEYS[2], slots[i])
    else
        taken = taken + 1
    end
end
if taken < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[2], ARGV[1], redis.sha1hex(task))
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return taken < tonumber(ARGV[2]) and 1 or 2
