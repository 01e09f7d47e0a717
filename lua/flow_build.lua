-- Purpose: store a workflow, whole, or in pages of which the last one starts it: until then none of it runs, and it is removed if no page
--          comes for some time. A page goes only to the workflow that its own builder has begun.
-- KEYS: flow, marks, joins, outbox, ids, due, run, bodies (the list of a set of which this page has tasks, or flow for none), unique (for
--       the first page of one that has a unique key: which workflow has that)
-- ARGV: id, builder (a token of who sends the pages), step ('first', 'more', or 'whole' for first and last, 'last'), patience
--       (milliseconds until a page must come), nodes (of the whole workflow), fields (how many names and values follow), tasks (how many
--       tasks follow those), rest... (fields and their values; tasks of the set; what is to be done first, for `flow_join`)
-- Returns: 1; the id of the workflow that has the unique key; 0 if a workflow of this id is known, or, after the first page, if it is
--          gone, or nobody's to build: then nothing has happened

local id, builder, step, patience, nodes, fields, tasks = unpack(ARGV, 1, 7)

local CHUNK = 4000 -- unpack() fails near 8,000 values
local NEVER = 9007199254740991

local first, last = step == 'first' or step == 'whole', step == 'last' or step == 'whole'
local state, own = unpack(redis.call('HMGET', KEYS[1], 'state', 'builder'))
redis.call('GETRANGE', KEYS[2], 0, 0)
for i = 3, 4 do redis.call('LLEN', KEYS[i]) end
for i = 5, 6 do redis.call('ZCARD', KEYS[i]) end
redis.call('HLEN', KEYS[7])
if KEYS[8] ~= KEYS[1] then redis.call('LLEN', KEYS[8]) end
local owner = #KEYS > 8 and redis.call('GET', KEYS[9])
if owner and redis.call('ZSCORE', KEYS[5], string.sub(owner, 1, #id)) then -- else it has been forgotten
    return owner
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if first == (state ~= false) or not first and own ~= builder then
    return 0
end
-- All keys have been read: writes begin here.
local function all(command, key, from, to)
    for at = from, to, CHUNK do redis.call(command, KEYS[key], unpack(ARGV, at, math.min(at + CHUNK - 1, to))) end
end
all('HSET', 1, 8, 7 + fields)
all('RPUSH', 8, 8 + fields, 7 + fields + tasks)
if first then
    redis.call('HSET', KEYS[1], 'state', 'building', 'created', now)
    redis.call('ZADD', KEYS[5], NEVER, id)
    if #KEYS > 8 then redis.call('SET', KEYS[9], id .. 'AAAAAA') end
    if tonumber(nodes) > 0 then redis.call('SETRANGE', KEYS[2], nodes - 1, '\0') end
end
if last then
    redis.call('HSET', KEYS[1], 'state', 'running')
    redis.call('HDEL', KEYS[1], 'builder')
    redis.call('HSET', KEYS[7], 'state', 'running', 'enqueued', now, 'started', now, 'attempt', 1)
    redis.call('ZREM', KEYS[6], id .. ' B')
    redis.call('RPUSH', KEYS[3], 'j0')
    all('RPUSH', 3, 8 + fields + tasks, #ARGV)
    redis.call('RPUSH', KEYS[4], id)
else
    redis.call('HSET', KEYS[1], 'builder', builder)
    redis.call('ZADD', KEYS[6], now + patience, id .. ' B')
end
return 1
