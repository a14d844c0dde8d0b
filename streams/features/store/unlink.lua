-- Takes ids out of what was told of others of one slot: they were forgotten. What was told since stays.
--
-- KEYS  links of the others
-- ARGV  per id: the id, until when it is forgotten
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
            for j = 1, #ARGV, 2 do
                local word = links[side][ARGV[j]]
                local told = type(word) == 'string' and tonumber(string.match(word, '^(%d+) ')) or 0
                if word ~= nil and told <= tonumber(ARGV[j + 1]) then
                    links[side][ARGV[j]] = nil
                    had = true
                end
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
