-- The hashes of items in one slot, each flat, in the order of the keys. A key of another type is an error.

local found = {}
for i = 1, #KEYS do
    found[i] = redis.pcall('HGETALL', KEYS[i])
end
return found
