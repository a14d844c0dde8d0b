-- Writes a value in the place of another, where that is still there.
--
-- KEYS  the key
-- ARGV  what it held, what to write
-- Reply 1 where it was written.

if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
