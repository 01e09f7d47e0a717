-- Purpose: run commands that read, all in one instant, for those who show what there is.
-- KEYS: key... (of the commands, in their order)
-- ARGV: word... (of each command: its name, how many keys it has, how many arguments follow these, and the arguments)
-- Returns: {reply of each command, which may be an error}

local READS = {EXISTS = 1, GETRANGE = 1, HGET = 1, HGETALL = 1, HLEN = 1, HMGET = 1, HSCAN = 1, LINDEX = 1, LLEN = 1, LRANGE = 1,
    MGET = 1, TIME = 1, XLEN = 1, XRANGE = 1, XREVRANGE = 1, ZCARD = 1, ZCOUNT = 1, ZMSCORE = 1, ZRANGE = 1, ZRANGEBYSCORE = 1,
    ZREVRANGE = 1, ZREVRANGEBYSCORE = 1}

local replies, taken, at = {}, 0, 1
while at <= #ARGV do
    local name, keys, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local words = {}
    for i = taken + 1, taken + keys do
        words[#words + 1] = KEYS[i]
    end
    for i = at + 3, at + 2 + count do
        words[#words + 1] = ARGV[i]
    end
    taken, at = taken + keys, at + 3 + count
    if READS[name] then
        replies[#replies + 1] = redis.pcall(name, unpack(words, 1, keys + count))
    else
        replies[#replies + 1] = {err = 'ERR ' .. name .. ' is no command that only reads'}
    end
end
return replies
