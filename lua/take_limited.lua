-- Purpose: as `take`, within the limits that operators have set for the queue.
-- KEYS: queue, noti, processing, lost, control, bucket, lease...
-- ARGV: claims (0 or 1), limit, living, holder, ttl (as for `take`)
-- Returns: {suspect, pause, task...}; pause: milliseconds after which to ask again if a limit was in the way, or else 0, or -1 if
--          the queue is paused. The claim of a caller that a limit kept from its task is given back

local claims, limit, living, holder, ttl = unpack(ARGV, 1, 5)

local MOST = 1000000000000 -- milliseconds: with a rate near 0 there would be more than Redis takes

claims = tonumber(claims)
local want, pause = #KEYS - 6, 0
local set = redis.call('HMGET', KEYS[5], 'paused', 'concurrency', 'rate', 'burst')
local level = redis.call('HMGET', KEYS[6], 'tokens', 'at')
local waiting, notified = redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2])
local held, suspects = redis.call('HLEN', KEYS[3]), redis.call('HLEN', KEYS[4])
want = math.min(want, waiting, limit == 'notified' and claims + notified or want)
local most, rate, burst, tokens, now = tonumber(set[2]), tonumber(set[3]), tonumber(set[4]) or 1
if most then -- one by one, as a task in hand that has not begun would take the place of one that could run
    want = math.min(want, 1, math.max(0, most - held))
    pause = held >= most and 100 or 0 -- nobody says when a task has ended
end
if rate and rate > 0 then
    local clock = redis.call('TIME')
    now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    local at = tonumber(level[2]) or now
    -- If the clock was set back, the bucket is full: else nothing would be taken until it has caught up.
    tokens = math.min(burst, (tonumber(level[1]) or burst) + (at > now and burst or (now - at) * rate / 1000))
    want = math.min(want, math.floor(tokens))
    pause = tokens < 1 and math.max(pause, math.min(math.ceil((1 - tokens) * 1000 / rate), MOST)) or pause
end
-- All keys have been read: writes begin here.
if set[1] or want == 0 then
    if claims > 0 and waiting > 0 and (set[1] or pause > 0) then
        redis.call('HDEL', KEYS[6], '') -- a removal: after it Redis lets the rest happen though its memory is full
        redis.call('LPUSH', KEYS[2], '1')
    end
    return {0, set[1] and -1 or pause}
end

-- As in `take`: leases that the caller holds to be living may have run out.
local reply, count = {0, 0}, 0
living = math.min(tonumber(living), want)
if living > 0 and redis.call('EXISTS', unpack(KEYS, 7, 6 + living)) < living then
    living = 0
end
while count < want and reply[1] == 0 do
    local task = redis.call('LINDEX', KEYS[1], 0)
    local suspect = suspects > 0 and redis.call('HEXISTS', KEYS[4], redis.sha1hex(task)) or 0
    if suspect == 1 and count > 0 then break end
    count = count + 1
    redis.call('LPOP', KEYS[1])
    redis.call('HSET', KEYS[3], KEYS[count + 6], task)
    if count > living then redis.call('SET', KEYS[count + 6], holder, 'PX', ttl) end
    reply[1], reply[count + 2] = suspect, task
end
if now then
    redis.call('HSET', KEYS[6], 'tokens', tokens - count, 'at', now)
    redis.call('PEXPIRE', KEYS[6], math.min(math.ceil(burst * 1000 / rate), MOST) + 1000)
end
if count > claims then
    redis.call('LPOP', KEYS[2], count - claims)
end
return reply
