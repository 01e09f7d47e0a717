-- Purpose: put right what waits for a key that is free: the first of those that wait go to the head of the queue. Endings do that
--          themselves; this is for keys that ran out, and for slots of leases that something else has ended.
-- KEYS: processing, queue, noti, waited, pair... (where tasks wait, and the key that they wait for)
-- ARGV: limit... (for each pair: how many slots there are, or 0 for a unique key)
-- Returns: how many tasks were woken

local MOST = 1000 -- tasks that one call wakes

local function is(i, kind) -- else another program uses it
    local found = redis.call('TYPE', KEYS[i])['ok']
    return found == kind or found == 'none'
end

for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
redis.call('HLEN', KEYS[1])
-- All keys have been read: writes begin here.
local count = 0
for i = 1, math.min(#ARGV, (#KEYS - 4) / 2) do
    local line, key, limit = 3 + 2 * i, 4 + 2 * i, tonumber(ARGV[i])
    local waiting = is(line, 'zset') and redis.call('ZCARD', KEYS[line]) or 0
    local room = 0
    if waiting == 0 then
        redis.call('HDEL', KEYS[4], string.sub(KEYS[line], -40))
    elseif limit == 0 then
        room = 1 - redis.call('EXISTS', KEYS[key])
    elseif is(key, 'hash') then
        local taken = redis.call('HLEN', KEYS[key])
        local slots = taken >= limit and redis.call('HGETALL', KEYS[key]) or {}
        for j = 1, #slots, 2 do
            if redis.call('HSTRLEN', KEYS[1], slots[j]) ~= tonumber(slots[j + 1]) then
                taken = taken - redis.call('HDEL', KEYS[key], slots[j])
            end
        end
        room = limit - taken
    end
    local woken = math.max(0, math.min(room, waiting, MOST - count))
    local members = woken > 0 and redis.call('ZPOPMIN', KEYS[line], woken) or {}
    for j = #members - 1, 1, -2 do -- the first of them comes first
        redis.call('LPUSH', KEYS[2], string.sub(members[j], string.byte(members[j], 17) == 58 and 58 or 17))
        redis.call('LPUSH', KEYS[3], '1')
    end
    if woken == waiting and waiting > 0 then redis.call('HDEL', KEYS[4], string.sub(KEYS[line], -40)) end
    count = count + woken
end
return count
