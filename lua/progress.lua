-- Purpose: store how far a tracked task says that it is, as long as its state is kept.
-- KEYS: task
-- ARGV: progress (MessagePack: done, total, note)
-- Returns: 1, or 0 if its state is not known any more

if redis.call('HEXISTS', KEYS[1], 'state') == 0 then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], 'progress') -- first, as a removal: Redis then lets the rest happen though its memory is full
redis.call('HSET', KEYS[1], 'progress', ARGV[1])
return 1
