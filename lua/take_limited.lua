-- Purpose: as `take`, within the limits that operators have set for the queue.
-- KEYS: queue, noti, processing, lost, control, bucket, lease...
-- ARGV: claims (0 or 1), limit, living, holder, ttl (as for `take`)
-- Returns: {suspect, pause, task...}; pause: milliseconds after which to ask again if a limit was in the way, or else 0, or -1 if
--          the queue is paused. The claim of a caller that a limit kept from its task is given back

local claims, limit, living, holder, ttl = unpack(ARGV, 1, 5)

local FREE = 16 -- of so many free places one may wait in hand
local MOST = 1000000000000 -- milliseconds: with a rate near 0 there would be more than Redis takes

claims = tonumber(claims)
local want, pause = #KEYS - 6, 0
local set = redis.call('HMGET', KEYS[5], 'paused', 'concurrency', 'rate', 'burst')
local level = redis.call('HMGET', KEYS[6], 'tokens', 'at')
local waiting, notified = redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2])
local held, suspects = redis.call('HLEN', KEYS[3]), redis.call('HLEN', KEYS[4])
want = math.min(want, waiting, limit == 'notified' and claims + notified or want)
local most, rate, burst, tokens, now = tonumber(set[2]), tonumber(set[3]), tonumber(set[4]) or 1
if most then -- a task in hand that has not begun takes the place of one that could run: so only a small part of what is free
    want = math.min(want, math.max(1, math.floor((most - held) / FREE)), math.max(0, most - held))
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
local tasks, reply, held = redis.call('LPOP', KEYS[1], want), {0, 0}, {}
local count = #tasks
for i = 1, suspects > 0 and count or 0 do
    if redis.call('HEXISTS', KEYS[4], redis.sha1hex(tasks[i])) == 1 then
        reply[1], count = i == 1 and 1 or 0, math.max(i - 1, 1)
        break
    end
end
for i = #tasks, count + 1, -1 do
    redis.call('LPUSH', KEYS[1], tasks[i])
end
for i = 1, count do
    held[2 * i - 1], held[2 * i], reply[i + 2] = KEYS[i + 6], tasks[i], tasks[i]
end
living = math.min(tonumber(living), count)
if living > 0 and redis.call('EXISTS', unpack(KEYS, 7, 6 + living)) < living then
    living = 0
end
for i = living + 1, count do
    redis.call('SET', KEYS[i + 6], holder, 'PX', ttl)
end
redis.call('HSET', KEYS[3], unpack(held))
if now then
    redis.call('HSET', KEYS[6], 'tokens', tokens - count, 'at', now)
    redis.call('PEXPIRE', KEYS[6], math.min(math.ceil(burst * 1000 / rate), MOST) + 1000)
end
if count > claims then
    redis.call('LPOP', KEYS[2], count - claims)
end
return reply
