-- Takes ids out of what was told of others of one slot: they were forgotten.
--
-- KEYS  links of the others
-- ARGV  the ids
-- Reply how many of the keys had any.

local touched = 0
for i = 1, #KEYS do
    local value = redis.pcall('GET', KEYS[i])
    local is_json, links = false, nil
    if type(value) == 'string' then
        is_json, links = pcall(cjson.decode, value)
    end
    if is_json and type(links) == 'table' and type(links.users) == 'table' and type(links.guests) == 'table' then
        local had, left = false, false
        for _, side in ipairs({ 'users', 'guests' }) do
            for j = 1, #ARGV do
                had = had or links[side][ARGV[j]] ~= nil
                links[side][ARGV[j]] = nil
            end
            left = left or next(links[side]) ~= nil
        end
        if had then
            touched = touched + 1
            if left then
                redis.call('SET', KEYS[i], cjson.encode(links))
            else
                redis.call('DEL', KEYS[i])
            end
        end
    end
end
return touched
