-- Purpose: end the leases of tasks that have succeeded, have no lost count, and hold one key each, of concurrency or a unique one: what
--          `finish` does for one.
-- KEYS: processing, queue, noti, waited, own... (for each task three: its state, or `processing` if it is not tracked; the slots of its
--       concurrency key, or its unique key; and the set of those that wait for that)
-- ARGV: ended (when, in milliseconds since 1970), about... (for each task four: its lease; its id if its key is a unique one, else '-';
--       its result, which is what those who wait are told; and keep, the milliseconds that this is kept)
-- Returns: how many of them there were; a lease that does not hold a task any more (the caller was superseded) changes nothing

local waiting, some = {}, false
for i = 7, #KEYS, 3 do
    if redis.call('EXISTS', KEYS[i]) == 1 then waiting[i], some = true, true end
end
if some then -- they are woken
    for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
    redis.call('HLEN', KEYS[4])
end
-- All keys have been read: writes begin here.
local ended, freed = 0, {}
for i = 2, #ARGV, 4 do
    local lease, owner, own = ARGV[i], ARGV[i + 1], 5 + (i - 2) / 4 * 3
    if redis.call('HDEL', KEYS[1], lease) == 1 then
        local free
        if owner == '-' then
            local held = redis.pcall('HDEL', KEYS[own + 1], lease)
            free = held == 1 or held == 0 and waiting[own + 2] and redis.call('EXISTS', KEYS[own + 1]) == 0
        else
            local found = redis.pcall('GET', KEYS[own + 1])
            if found == owner then redis.call('DEL', KEYS[own + 1]) end
            free = found == owner or not found
        end
        if free and waiting[own + 2] then freed[#freed + 1] = own + 2 end
        if KEYS[own] ~= KEYS[1] then -- a key of another program's is left alone: the lease has ended
            local stored = redis.pcall('HSET', KEYS[own], 'state', 'succeeded', 'ended', ARGV[1], 'result', ARGV[i + 2])
            if type(stored) == 'number' then redis.call('PEXPIRE', KEYS[own], ARGV[i + 3]) end
        end
        ended = ended + 1
    end
end
if #freed == 0 then return ended end

-- What tasks hold: the same passage wherever leases end (docs/protocol.md, section 7d). A key of another program's is left alone, as a
-- lease must be able to end.
local function has(i, kind) -- else it stands for none, or is another program's
    local found = KEYS[i] ~= KEYS[1] and redis.call('TYPE', KEYS[i])['ok']
    return found == kind or found == 'none'
end
local function wake(i) -- the first that waits there goes to the head of the queue
    local first = KEYS[i] ~= KEYS[1] and redis.pcall('ZPOPMIN', KEYS[i])[1]
    if first then
        redis.call('LPUSH', KEYS[2], string.sub(first, string.byte(first, 17) == 58 and 58 or 17))
        redis.call('LPUSH', KEYS[3], '1')
        if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('HDEL', KEYS[4], string.sub(KEYS[i], -40)) end
    end
end
-- End of the passage.

for i = 1, #freed do wake(freed[i]) end
return ended
