-- Reads one slot at one moment.
--
-- KEYS  marks, landmark, marks of identities, marks of users, `private`, then keys of strings
-- Reply the five (hashes flat), then each string, nothing where there is none. A key of another type is an error in its
--       place; of the strings it is nothing, too.

local reply = {
    redis.pcall('HGETALL', KEYS[1]),
    redis.pcall('GET', KEYS[2]),
    redis.pcall('HGETALL', KEYS[3]),
    redis.pcall('HGETALL', KEYS[4]),
    redis.pcall('GET', KEYS[5]),
}
for from = 6, #KEYS, 4000 do -- unpack has a limit
    local some = redis.call('MGET', unpack(KEYS, from, math.min(from + 3999, #KEYS)))
    for i = 1, #some do
        reply[#reply + 1] = some[i]
    end
end
return reply
