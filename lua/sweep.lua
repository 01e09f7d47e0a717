-- Purpose: end the leases whose key is gone: their worker died or lost them. Each task goes back to the head of the
--          queue, or to the dead letters once it has been lost too often.
-- KEYS: queue, noti, processing, lost, dead, stats, pair... (each a lease, and the state of its task, or the lease again)
-- ARGV: limit (losses that bury a task), pass (a token of this sweep: it counts tasks of the same bytes once),
--       sweeper (who does it), cause (what is known of it: words to add to the detail, or none)
-- Returns: {tasks put back, tasks buried, more (1: large tasks used up the budget, call again)}

local BUDGET = 1048576 -- bytes of tasks in one call
local KEEP = 86400 -- seconds that a loss is remembered after the last one
local MOST = 10000 -- losses remembered; past that they are all forgotten rather than grow

-- Read before anything is written: if a key has a foreign type, nothing has happened.
redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[4])
redis.call('XLEN', KEYS[5])
local recovered, buried, bytes, more = 0, 0, 0, 0
for i = 7, #KEYS, 2 do
    local task = redis.call('EXISTS', KEYS[i]) == 0 and redis.call('HGET', KEYS[3], KEYS[i])
    if task then
        if bytes > BUDGET then
            more = 1
            break
        end
        bytes = bytes + #task
        redis.call('HDEL', KEYS[3], KEYS[i])
        local digest = redis.sha1hex(task)
        local count, pass = string.match(redis.call('HGET', KEYS[4], digest) or '', '^(%d+):(.*)$')
        count = tonumber(count or 0) + (pass == ARGV[2] and 0 or 1)
        if count >= tonumber(ARGV[1]) then
            local detail = 'its worker died or lost its lease ' .. count .. ' times' .. ARGV[4]
            redis.call('XADD', KEYS[5], '*', 'task', task, 'reason', 'lost', 'detail', detail, 'worker', ARGV[3])
            redis.call('HDEL', KEYS[4], digest)
            buried = buried + 1
        else
            if redis.call('HLEN', KEYS[4]) >= MOST then
                redis.call('DEL', KEYS[4])
            end
            redis.call('HSET', KEYS[4], digest, count .. ':' .. ARGV[2])
            redis.call('EXPIRE', KEYS[4], KEEP)
            redis.call('LPUSH', KEYS[1], task)
            redis.call('LPUSH', KEYS[2], '1')
            recovered = recovered + 1
            if redis.pcall('HGET', KEYS[i + 1], 'state') == 'running' then
                redis.call('HSET', KEYS[i + 1], 'state', 'queued', 'error', 'its worker died or lost its lease' .. ARGV[4])
            end
        end
    end
end
-- What is no number, or no hash, only costs the statistics: lost tasks must come back.
if recovered > 0 then redis.pcall('HINCRBY', KEYS[6], 'recovered', recovered) end
if buried > 0 then redis.pcall('HINCRBY', KEYS[6], 'buried', buried) end
return {recovered, buried, more}
