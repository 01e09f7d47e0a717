-- Purpose: remove a workflow that has ended some time ago, or that nobody goes on building.
-- KEYS: flow, marks, joins, outbox, ids, due, bodies... (the lists of its large sets, and at last the key that says which workflow has
--       its unique key, if it has one)
-- ARGV: id, timer (what stood in `due`, or ''), builder (the token of who was building it, and gives up; or ''), unique (1 if it has a
--       unique key)
-- Returns: 1, or 0 if it is one that goes on, or that somebody builds whose time is not over: nothing has happened, but that the timer of
--          one that is not being built is gone

local OPEN = {running = true, failing = true, cancelling = true}

local state, ended, own = unpack(redis.call('HMGET', KEYS[1], 'state', 'ended', 'builder'))
redis.call('LLEN', KEYS[4])
for i = 5, 6 do redis.call('ZCARD', KEYS[i]) end
local last = redis.call('ZSCORE', KEYS[5], ARGV[1])
local due = redis.call('ZSCORE', KEYS[6], ARGV[2])
local lists, owner = #KEYS, nil
if ARGV[4] == '1' then
    lists, owner = #KEYS - 1, redis.pcall('GET', KEYS[#KEYS]) -- another program's is left alone
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local over = not last or now >= tonumber(last)
local given_up = due and (now >= tonumber(due) or own == ARGV[3]) -- else a page has come, or somebody has begun it anew
-- All keys have been read: writes begin here.
if ARGV[2] ~= '' and (state ~= 'building' or given_up) then redis.call('ZREM', KEYS[6], ARGV[2]) end
if OPEN[state] or state == 'building' and not given_up or ended and not over then
    return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
for i = 7, lists do redis.call('DEL', KEYS[i]) end
if owner == ARGV[1] .. 'AAAAAA' then redis.call('DEL', KEYS[#KEYS]) end
redis.call('LREM', KEYS[4], 0, ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return 1
