-- Purpose: let a workflow know of something that no member of it has said: a signal, a cancel, a time that is over.
-- KEYS: flow, joins, outbox, due
-- ARGV: id, entry (for `flow_join`), field (in which its payload is kept, the first one; or ''), payload, timer (what stood in `due`,
--       and is gone from there now; or '')
-- Returns: 1; 0 if there is no such workflow; 2 if the field was there already: nothing has happened

local id, entry, field, payload, timer = unpack(ARGV, 1, 5)

local state = redis.call('HGET', KEYS[1], 'state')
local before = field ~= '' and redis.call('HEXISTS', KEYS[1], field) == 1
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('ZCARD', KEYS[4])
-- All keys have been read: writes begin here.
redis.call('ZREM', KEYS[4], timer) -- first, as a removal: Redis then lets the rest happen though its memory is full
if not state then
    return 0
end
if before then
    return 2
end
if field ~= '' then redis.call('HSET', KEYS[1], field, payload) end
if redis.call('RPUSH', KEYS[2], entry) == 1 then redis.call('RPUSH', KEYS[3], id) end
return 1
