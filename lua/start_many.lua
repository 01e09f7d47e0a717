-- Purpose: begin tasks together of which each is tracked, or has a concurrency key with a slot that is free, or both: what `start` does
--          for one.
-- KEYS: processing, own... (for each task its state, or `processing` if it is not tracked, and if it has a concurrency key its slots)
-- ARGV: worker (who begins), now (milliseconds since 1970), tracked (milliseconds that a state is kept), about... (for each task three:
--       its lease; which attempt this is, counted from 1; and the limit of its concurrency key, or 'unique' if it has a unique key until
--       it ends, or '')
-- Returns: for each task 1; 0 if its lease does not hold a task any more; 2 if it has been cancelled; -1 if it is for `start` to say

local reply, waited, first, taken, fields, at, states = {}, {}, {}, {}, {}, 1, false
for i = 4, #ARGV, 3 do
    local n, limit, own = (i - 1) / 3, tonumber(ARGV[i + 2]), at + 1
    at = limit and at + 2 or at + 1
    local size = redis.call('HSTRLEN', KEYS[1], ARGV[i])
    local answer = size > 0 and 1 or 0
    if size > 0 and KEYS[own] ~= KEYS[1] then
        states = true
        local found = redis.pcall('HMGET', KEYS[own], 'cancelled', 'data', 'unique')
        if found.err or found[1] and limit or ARGV[i + 2] == 'unique' and not found[3] then
            answer = -1
        else
            answer, waited[n] = found[1] and 2 or 1, found[2]
        end
    end
    if answer == 1 and limit then
        local slots = first[KEYS[at]] or at -- several may have the same
        first[KEYS[at]] = slots
        if not taken[slots] then
            local count = redis.pcall('HLEN', KEYS[slots])
            taken[slots], fields[slots] = type(count) == 'number' and count or math.huge, {}
        end
        if taken[slots] < limit then
            local held = fields[slots]
            taken[slots], held[#held + 1], held[#held + 2] = taken[slots] + 1, ARGV[i], size
        else
            answer, waited[n] = -1, nil
        end
    end
    reply[n] = answer
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], '') -- first, as a removal: Redis then lets the rest happen though its memory is full
at = 1
for i = 4, states and #ARGV or 0, 3 do
    local n, own = (i - 1) / 3, at + 1
    at = tonumber(ARGV[i + 2]) and at + 2 or at + 1
    if waited[n] then redis.call('HDEL', KEYS[own], 'data', 'waits', 'place') end
    if reply[n] == 1 and KEYS[own] ~= KEYS[1] then
        local new = redis.call('HSET', KEYS[own], 'state', 'running', 'worker', ARGV[1], 'started', ARGV[2], 'attempt', ARGV[i + 1])
        if new == 4 then redis.call('PEXPIRE', KEYS[own], ARGV[3]) end -- it had run out
    end
end
for slots = 2, #KEYS do
    local held = fields[slots]
    if held and held[1] then
        redis.call('HSET', KEYS[slots], unpack(held))
        redis.call('PEXPIRE', KEYS[slots], ARGV[3])
    end
end
return reply
