-- Writes what one batch made, whole or not at all.
--
-- KEYS  marks, landmark, popular, then the touched users, then the touched items
-- ARGV  numbers of marks, users, items; the landmark;
--       per mark:  partition, the offset it is expected at ('' for none), the offset to set
--       per user:  the count expected in the stored state, the state to write
--       per item:  item id, log2 of the decayed weight to add ('' for none), newest event time,
--                  number of types, then type and count for each
-- Reply 'applied', or what had changed meanwhile: 'marks', 'users', 'landmark'. Then nothing was written.
--       {'applied', key, ...} when these keys held what no statistics are: they begin anew with this batch.
--
-- The marks make it idempotent: a second run of the same arguments finds them moved and answers 'marks'.
-- Redis undoes nothing of a script that fails half-way: so nothing after the first write may fail, whatever a key holds.

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
    -- states begin {"count":N, so the version is read without parsing the history; another type of key is an error table
    local head = redis.pcall('GETRANGE', KEYS[4 + i], 0, 31)
    local count = head == '' and '0' or type(head) == 'string' and string.match(head, '^{"count":(%d+),')
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

local LN2, HUGE = math.log(2), 1e15
local reply = { 'applied' }
local function number(text)
    local value = tonumber(text or '')
    return value and value > -HUGE and value < HUGE and value or nil -- neither NaN nor infinity
end

at = users_at + 2 * n_users
for i = 0, n_items - 1 do
    local key, item, added, last = KEYS[4 + n_users + i], ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local types = tonumber(ARGV[at + 3])
    at = at + 4
    local known = redis.pcall('HMGET', key, 'log2', 'last')
    if known.err then
        redis.call('DEL', key)
        known = {}
        reply[#reply + 1] = key
    end
    local known_log2, known_last = number(known[1]), number(known[2])
    if known[1] and not known_log2 or known[2] and not known_last then
        reply[#reply + 1] = key
    end
    for _ = 1, types do
        local counted = redis.pcall('HINCRBY', key, 'n:' .. ARGV[at], ARGV[at + 1])
        if type(counted) == 'table' then
            redis.call('HSET', key, 'n:' .. ARGV[at], ARGV[at + 1])
            reply[#reply + 1] = key
        end
        at = at + 2
    end
    if not known_last or known_last < tonumber(last) then
        redis.call('HSET', key, 'last', last)
    end
    if added ~= '' then
        -- log2(2^a + 2^b), from the larger one so that nothing overflows
        if known_log2 then
            local a, b = known_log2, tonumber(added)
            if a < b then a, b = b, a end
            added = string.format('%.17g', a + math.log(1 + 2 ^ (b - a)) / LN2)
        end
        redis.call('HSET', key, 'log2', added)
        if type(redis.pcall('ZADD', popular, added, item)) == 'table' then
            redis.call('DEL', popular)
            redis.call('ZADD', popular, added, item)
            reply[#reply + 1] = popular
        end
    end
end
return #reply > 1 and reply or 'applied'
