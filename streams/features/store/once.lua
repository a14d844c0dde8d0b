-- Sets a key that is not there.
--
-- KEYS  the key
-- ARGV  what it is set to
-- Reply what it holds; an error where it is of another type.

redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.pcall('GET', KEYS[1])
