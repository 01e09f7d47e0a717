-- Purpose: remove a workflow that has ended some time ago, or has ended and is wanted no more, or that nobody goes on building.
-- KEYS: flow, marks, joins, outbox, ids, due, bodies... (the lists of its large sets, the state of one that is wanted no more, and at
--       last the key that says which workflow has its unique key, if it has one)
-- ARGV: id, timer (what stood in `due`, or ''), builder (the token of who was building it, and gives up; or ''), unique (1 if it has a
--       unique key), unwanted (1 if it is not to be kept, once it has ended and nothing of it is left to be carried on)
-- Returns: 1, or 0 if it is one that goes on, or that somebody builds whose time is not over: nothing has happened, but that the timer of
--          one that is not being built is gone

local id, timer, builder, unique, unwanted = unpack(ARGV, 1, 5)

local OPEN = {running = true, failing = true, cancelling = true}

local state, ended, own = unpack(redis.call('HMGET', KEYS[1], 'state', 'ended', 'builder'))
redis.call('LLEN', KEYS[4])
for i = 5, 6 do redis.call('ZCARD', KEYS[i]) end
local last = redis.call('ZSCORE', KEYS[5], id)
local due = redis.call('ZSCORE', KEYS[6], timer)
local lists, owner = #KEYS, nil
if unique == '1' then
    lists, owner = #KEYS - 1, redis.pcall('GET', KEYS[#KEYS]) -- another program's is left alone
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local over = not last or now >= tonumber(last) or unwanted == '1' and redis.pcall('LLEN', KEYS[3]) == 0
local given_up = due and (now >= tonumber(due) or own == builder) -- else a page has come, or somebody has begun it anew
-- All keys have been read: writes begin here.
if timer ~= '' and (state ~= 'building' or given_up) then redis.call('ZREM', KEYS[6], timer) end
if OPEN[state] or state == 'building' and not given_up or ended and not over then
    return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
for i = 7, lists do redis.call('DEL', KEYS[i]) end
if owner == id .. 'AAAAAA' then redis.call('DEL', KEYS[#KEYS]) end
redis.call('LREM', KEYS[4], 0, id)
redis.call('ZREM', KEYS[5], id)
return 1
