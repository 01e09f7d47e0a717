-- Purpose: write how far an operator's job is, if the caller still has its lease.
-- KEYS: jobs, lease (of the job)
-- ARGV: id, token (the caller's), record (how far it is), keep (milliseconds that the lease lives on; 0: the job has ended)
-- Returns: 1; 2 if an operator wants it to stop; 0 if the lease is another's, or the job has ended: nothing has happened

local owner = redis.call('GET', KEYS[2])
local asked = redis.call('HGET', KEYS[1], 'open:' .. ARGV[1])
if owner ~= ARGV[2] or not asked then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], ARGV[1]) -- first, as it frees memory: Redis then lets the rest happen though its memory is full
if ARGV[4] == '0' then
    redis.call('HDEL', KEYS[1], 'open:' .. ARGV[1])
    redis.call('DEL', KEYS[2])
else
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return asked == 'stop' and 2 or 1
