-- Purpose: end the leases whose key is gone: their worker died or lost them. Each task goes back to the head of the
--          queue, or to the dead letters once it has been lost too often: then a tracked one has failed.
-- KEYS: processing, queue, noti, waited, lost, dead, stats, bucket, lease... (each followed by the five keys of its task, if that
--       holds something: section 7d)
-- ARGV: limit (losses that bury a task), pass (a token of this sweep: it counts tasks of the same bytes once),
--       sweeper (who does it), cause (what is known of it: words to add to the detail, or none), about... (for each lease three: the
--       id of its task, '-' if that is not tracked, or '' if it holds nothing and has no keys here; milliseconds that its end is
--       kept; 'running' if it has its unique key only while it runs, or '')
-- Returns: {tasks put back, tasks buried, more (1: large tasks used up the budget, call again)}

local limit, pass, sweeper, cause = unpack(ARGV, 1, 4)

local BUDGET = 1048576 -- bytes of tasks in one call
local KEEP = 86400 -- seconds that a loss is remembered after the last one
local MOST = 10000 -- losses remembered; past that they are all forgotten rather than grow
local LOST = 'its worker died or lost its lease'

-- What tasks hold: the same passage wherever leases end (docs/protocol.md, section 7d).
local function has(i, kind) -- else it stands for none, or is another program's: a lease must be able to end
    local found = KEYS[i] ~= KEYS[1] and redis.call('TYPE', KEYS[i])['ok']
    return found == kind or found == 'none'
end
local function wake(i) -- the first that waits there goes to the head of the queue
    local first = has(i, 'zset') and redis.call('ZPOPMIN', KEYS[i])[1]
    if first then
        redis.call('LPUSH', KEYS[2], string.sub(first, string.byte(first, 17) == 58 and 58 or 17))
        redis.call('LPUSH', KEYS[3], '1')
        if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('HDEL', KEYS[4], string.sub(KEYS[i], -40)) end
    end
end
local function free(own, lease, id, leaves) -- `leaves`: it does not come back at once: another's turn
    if has(own + 1, 'string') then
        local owner = redis.call('GET', KEYS[own + 1])
        if owner == id then redis.call('DEL', KEYS[own + 1]) end
        if owner == id or leaves and not owner then wake(own + 2) end
    end
    if has(own + 3, 'hash') then
        local held = redis.call('HDEL', KEYS[own + 3], lease) == 1
        if held or leaves and redis.call('EXISTS', KEYS[own + 3]) == 0 then wake(own + 4) end
    end
end
-- End of the passage.

local function packed(text) -- a string in MessagePack
    local size = #text
    return (size < 32 and string.char(160 + size) or size < 256 and string.char(217, size)
        or string.char(218, math.floor(size / 256) % 256, size % 256)) .. text
end
local function fail(own, id, keep, detail) -- a tracked task that is buried
    if has(own, 'hash') then
        redis.call('HDEL', KEYS[own], 'data', 'waits', 'place')
        local result = '\148' .. packed('failed') .. packed('lost') .. packed(detail) .. packed('')
        redis.call('HSET', KEYS[own], 'state', 'failed', 'error', 'lost: ' .. detail, 'result', result)
        redis.call('PEXPIRE', KEYS[own], keep)
    end
end

for i = 2, 3 do
    redis.call('LLEN', KEYS[i])
    redis.call('HLEN', KEYS[i + 2])
end
redis.call('HLEN', KEYS[1])
redis.call('XLEN', KEYS[6])
local recovered, buried, tokens, bytes, more, at = 0, 0, 0, 0, 0, 9
-- All keys have been read: writes begin here.
for i = 5, #ARGV, 3 do
    local lease, own, id, keep = at, ARGV[i] ~= '' and at + 5 <= #KEYS and at + 1, ARGV[i], ARGV[i + 1]
    at = at + (own and 6 or 1)
    local task = redis.call('EXISTS', KEYS[lease]) == 0 and redis.call('HGET', KEYS[1], KEYS[lease])
    if task then
        if bytes > BUDGET then
            more = 1
            break
        end
        bytes = bytes + #task
        redis.call('HDEL', KEYS[1], KEYS[lease])
        local digest = redis.sha1hex(task)
        local count, last = string.match(redis.call('HGET', KEYS[5], digest) or '', '^(%d+):(.*)$')
        count = tonumber(count or 0) + (last == pass and 0 or 1)
        if count >= tonumber(limit) then
            local detail = LOST .. ' ' .. count .. ' times' .. cause
            redis.call('XADD', KEYS[6], '*', 'task', task, 'reason', 'lost', 'detail', detail, 'worker', sweeper)
            redis.call('HDEL', KEYS[5], digest)
            if own then free(own, KEYS[lease], id, true) end
            if own and id ~= '-' then fail(own, id, keep, detail) end
            buried = buried + 1
        else
            if redis.call('HLEN', KEYS[5]) >= MOST then redis.call('DEL', KEYS[5]) end
            redis.call('HSET', KEYS[5], digest, count .. ':' .. pass)
            redis.call('EXPIRE', KEYS[5], KEEP)
            if own then free(own, KEYS[lease], ARGV[i + 2] == 'running' and id or '') end
            local began = own and has(own, 'hash') and redis.call('HGET', KEYS[own], 'state') == 'running'
            if began then redis.call('HSET', KEYS[own], 'state', 'queued', 'error', LOST .. cause) end
            redis.call('LPUSH', KEYS[2], task)
            redis.call('LPUSH', KEYS[3], '1')
            recovered, tokens = recovered + 1, tokens + (began and 0 or 1)
        end
    end
end
-- What is no number, or no hash, only costs the statistics, or the tokens: lost tasks must come back.
if recovered > 0 then redis.pcall('HINCRBY', KEYS[7], 'recovered', recovered) end
if buried > 0 then redis.pcall('HINCRBY', KEYS[7], 'buried', buried) end
if tokens > 0 and redis.call('TYPE', KEYS[8])['ok'] == 'hash' then redis.pcall('HINCRBYFLOAT', KEYS[8], 'tokens', tokens) end
return {recovered, buried, more}
