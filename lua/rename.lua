-- Purpose: give a queue on which nobody works another name.
-- KEYS: processing, groups, key... (each key of the queue that may be there, followed by its new name)
-- ARGV: count (of the groups whose lists are among the keys)
-- Returns: 1; or if nothing has happened 0, as tasks are held, 2, as a key of the new name is there, or 3, as there are other groups

if redis.call('HLEN', KEYS[1]) > 0 then
    return 0
end
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[1]) then
    return 3
end
for i = 4, #KEYS, 2 do
    if redis.call('EXISTS', KEYS[i]) == 1 then
        return 2
    end
end
-- All keys have been read: writes begin here.
for i = 3, #KEYS, 2 do
    if redis.call('EXISTS', KEYS[i]) == 1 then
        redis.call('RENAME', KEYS[i], KEYS[i + 1])
    end
end
return 1
