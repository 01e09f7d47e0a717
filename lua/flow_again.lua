-- Purpose: let a workflow that has ended go on, with other marks of its nodes and the counts that follow from them: some run again.
-- KEYS: flow, marks, joins, outbox, ids, run
-- ARGV: id, ended (when it has, as the caller saw it), gone (how many fields are removed), fields (how many names and values follow
--       those), marks (of all nodes), rest... (names; fields and their values; what is to be done first, for `flow_join`)
-- Returns: 1, or 0 if it has not ended, or not then: nothing has happened

local id, ended, gone, fields, marks = unpack(ARGV, 1, 5)

local CHUNK = 4000 -- unpack() fails near 8,000 values
local NEVER = 9007199254740991

local found = redis.call('HGET', KEYS[1], 'ended')
redis.call('GETRANGE', KEYS[2], 0, 0)
for i = 3, 4 do redis.call('LLEN', KEYS[i]) end
redis.call('ZCARD', KEYS[5])
redis.call('HLEN', KEYS[6])
if found ~= ended then
    return 0
end
-- All keys have been read: writes begin here.
local function all(command, key, from, to)
    for at = from, to, CHUNK do redis.call(command, KEYS[key], unpack(ARGV, at, math.min(at + CHUNK - 1, to))) end
end
redis.call('HDEL', KEYS[1], 'ended')
all('HDEL', 1, 6, 5 + gone)
all('HSET', 1, 6 + gone, 5 + gone + fields)
redis.call('HSET', KEYS[1], 'state', 'running')
redis.call('SET', KEYS[2], marks)
redis.call('HDEL', KEYS[6], 'result', 'error', 'cancelled', 'ended')
redis.call('HSET', KEYS[6], 'state', 'running')
redis.call('ZADD', KEYS[5], NEVER, id)
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[6])
all('RPUSH', 3, 6 + gone + fields, #ARGV)
redis.call('RPUSH', KEYS[4], id)
return 1
