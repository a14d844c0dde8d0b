-- Writes states that were made again from the log, where the keys still hold what no state is.
--
-- KEYS  of each user the base and the tail
-- ARGV  per user: '1' if a key was no string, what base and tail held together, the base to write ('' to remove both)
-- Reply how many were written. A worker that was faster has written a state: that stays.

local mended = 0
for i = 1, #KEYS / 2 do
    local at = 3 * i - 2
    local base, tail = redis.pcall('GET', KEYS[2 * i - 1]), redis.pcall('GET', KEYS[2 * i])
    local is_foreign = type(base) == 'table' or type(tail) == 'table'
    local held = (type(base) == 'string' and base or '') .. (type(tail) == 'string' and tail or '')
    if is_foreign and ARGV[at] == '1' or ARGV[at] == '0' and held == ARGV[at + 1] then
        redis.call('DEL', KEYS[2 * i])
        if ARGV[at + 2] == '' then
            redis.call('DEL', KEYS[2 * i - 1])
        else
            redis.call('SET', KEYS[2 * i - 1], ARGV[at + 2])
        end
        mended = mended + 1
    end
end
return mended
