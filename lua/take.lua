-- Purpose: move tasks from the head of a queue under leases, one task to a lease, together with their notifications.
-- KEYS: queue, noti, processing, lost, lease...
-- ARGV: claims (notifications that the caller has popped), limit ('notified': no more than there are notifications;
--       'waiting': whatever waits), living (how many of the leases, from the first, have a key already), holder (the
--       value of a lease's key), ttl (of the keys that are made here, in milliseconds)
-- Returns: {suspect, task...}; task i is held under lease i. A task with a lost count comes alone, with suspect = 1,
--          so that what it does to its worker hits no other

local claims, limit, living, holder, ttl = unpack(ARGV, 1, 5)

claims = tonumber(claims)
local want = #KEYS - 4
local notified, suspects = redis.call('LLEN', KEYS[2]), redis.call('HLEN', KEYS[4])
redis.call('HLEN', KEYS[3])
if limit == 'notified' then
    want = math.min(want, claims + notified)
end
-- All keys have been read: writes begin here.
local tasks = want > 0 and redis.call('LPOP', KEYS[1], want)
if not tasks then
    return {0}
end

local suspect, count = 0, #tasks
if suspects > 0 then
    for i = 1, count do
        if redis.call('HEXISTS', KEYS[4], redis.sha1hex(tasks[i])) == 1 then
            suspect = i == 1 and 1 or 0
            count = math.max(i - 1, 1)
            break
        end
    end
    for i = #tasks, count + 1, -1 do
        redis.call('LPUSH', KEYS[1], tasks[i])
    end
end

local held, reply = {}, {suspect}
for i = 1, count do
    held[2 * i - 1], held[2 * i] = KEYS[i + 4], tasks[i]
    reply[i + 1] = tasks[i]
end
-- Leases that the caller holds to be living may have run out at once: the server's clock was set forward.
living = math.min(tonumber(living), count)
if living > 0 and redis.call('EXISTS', unpack(KEYS, 5, 4 + living)) < living then
    living = 0
end
for i = living + 1, count do
    redis.call('SET', KEYS[i + 4], holder, 'PX', ttl)
end
redis.call('HSET', KEYS[3], unpack(held))
if count > claims then
    redis.call('LPOP', KEYS[2], count - claims)
end
return reply
