-- What is popular in one slot, at one moment.
--
-- KEYS  landmark, popular, marks
-- ARGV  how many items
-- Reply the landmark; items and log2 of their weights, best first, flat; the marks, flat. A key of another type is an error.

return {
    redis.pcall('GET', KEYS[1]),
    redis.pcall('ZREVRANGE', KEYS[2], 0, tonumber(ARGV[1]) - 1, 'WITHSCORES'),
    redis.pcall('HGETALL', KEYS[3]),
}
