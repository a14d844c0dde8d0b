-- Writes what one batch made, whole or not at all.
--
-- KEYS  marks, landmark, popular, then the touched users, then the touched items
-- ARGV  numbers of marks, users, items; the landmark;
--       per mark:  partition, the offset it is expected at ('' for none), the offset to set
--       per user:  the count expected in the stored state, the state to write
--       per item:  item id, log2 of the decayed weight to add ('' for none), newest event time,
--                  number of types, then type and count for each
-- Reply 'applied', or what had changed meanwhile: 'marks', 'users', 'landmark'. Then nothing was written.
--
-- The marks make it idempotent: a second run of the same arguments finds them moved and answers 'marks'.

local marks, landmark, popular = KEYS[1], KEYS[2], KEYS[3]
local n_marks, n_users, n_items = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at = 5

for i = 0, n_marks - 1 do
    local found = redis.call('HGET', marks, ARGV[at + 3 * i]) or ''
    if found ~= ARGV[at + 3 * i + 1] then
        return 'marks'
    end
end
local users_at = at + 3 * n_marks
for i = 0, n_users - 1 do
    -- states begin {"count":N, so the version is read without parsing the history
    local head = redis.call('GETRANGE', KEYS[4 + i], 0, 31)
    local count = head == '' and '0' or string.match(head, '^{"count":(%d+),')
    if count ~= ARGV[users_at + 2 * i] then
        return 'users'
    end
end
local found = redis.call('GET', landmark)
if not found then
    if ARGV[4] ~= '' then
        redis.call('SET', landmark, ARGV[4])
    end
elseif found ~= ARGV[4] then
    return 'landmark'
end

for i = 0, n_marks - 1 do
    redis.call('HSET', marks, ARGV[at + 3 * i], ARGV[at + 3 * i + 2])
end
for i = 0, n_users - 1 do
    redis.call('SET', KEYS[4 + i], ARGV[users_at + 2 * i + 1])
end

local LN2 = math.log(2)
at = users_at + 2 * n_users
for i = 0, n_items - 1 do
    local key, item, added, last = KEYS[4 + n_users + i], ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local types = tonumber(ARGV[at + 3])
    at = at + 4
    local known = redis.call('HMGET', key, 'log2', 'last')
    for _ = 1, types do
        redis.call('HINCRBY', key, 'n:' .. ARGV[at], ARGV[at + 1])
        at = at + 2
    end
    if not known[2] or tonumber(known[2]) < tonumber(last) then
        redis.call('HSET', key, 'last', last)
    end
    if added ~= '' then
        -- log2(2^a + 2^b), from the larger one so that nothing overflows
        if known[1] then
            local a, b = tonumber(known[1]), tonumber(added)
            if a < b then a, b = b, a end
            added = string.format('%.17g', a + math.log(1 + 2 ^ (b - a)) / LN2)
        end
        redis.call('HSET', key, 'log2', added)
        redis.call('ZADD', popular, added, item)
    end
end
return 'applied'
