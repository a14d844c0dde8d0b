-- log2 of the weights of items in one slot, in their order; nothing of those that have none there.
--
-- KEYS  popular
-- ARGV  items

local found = {}
for i = 1, #ARGV do
    found[i] = redis.pcall('ZSCORE', KEYS[1], ARGV[i])
    if type(found[i]) == 'table' then
        found[i] = false
    end
end
return found
