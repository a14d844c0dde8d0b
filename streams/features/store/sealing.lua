-- Keeps what a slot's values are sealed by, before any of them is written.
--
-- KEYS  `sealing` of the slot
-- ARGV  id of the store's key; the key as the master key has wrapped it: what is there already may be of a newer one
-- Reply 1 where it was not there. A key of another type begins anew.

local known = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(known) == 'string' then
    return 0
end
if type(known) == 'table' then
    redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
