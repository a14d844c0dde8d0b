-- All that one slot holds, at one moment.
--
-- KEYS  one key of the slot, so that a cluster knows where it is; then keys that are copied where they are there
-- ARGV  globs of the other keys that are copied
-- Reply per key {key, 's', value}, {key, 'h', fields and values} or {key, 'z', members and scores}; of other types nothing.
--
-- It looks at every key of its node, and holds all else up meanwhile: the caller minds how many there are.

local found, seen = {}, {}
local function copy(key)
    if seen[key] then
        return
    end
    seen[key] = true
    local kind = redis.call('TYPE', key).ok
    if kind == 'string' then
        found[#found + 1] = { key, 's', { redis.call('GET', key) } }
    elseif kind == 'hash' then
        found[#found + 1] = { key, 'h', redis.call('HGETALL', key) }
    elseif kind == 'zset' then
        found[#found + 1] = { key, 'z', redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') }
    end
end
for i = 2, #KEYS do
    copy(KEYS[i])
end
for i = 1, #ARGV do
    local keys = redis.call('KEYS', ARGV[i])
    for n = 1, #keys do
        copy(keys[n])
    end
end
return found
