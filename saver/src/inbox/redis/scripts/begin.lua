-- Begins an epoch in a partition. ARGV: epoch, its first number, greatest message id that the archive has (I4, I4), when
-- the last of the archive's idempotency keys ends.
-- Answers the journal's last entry; nothing if a later epoch has begun.
local meta_key = KEYS[1] .. 'm'
local meta = redis.call('HMGET', meta_key, 'e', 's', 'l', 'd', 'k')
local epoch = tonumber(ARGV[1])
if meta[1] and tonumber(meta[1]) > epoch then return false end
local floor, jn, jr, jb = struct.unpack('>I8I8I8I8', meta[2] or string.rep('\0', 32))
if meta[1] == ARGV[1] then return jn end
local ohi, olo, nhi, nlo, fhi, flo, count, opened, which =
  struct.unpack('>I4I4I4I4I4I4I4I8B', meta[4] or string.rep('\0', 37))
local hi, lo = struct.unpack('>I4I4', ARGV[3])
-- What was written into the archive alone is not remembered here.
if hi > fhi or (hi == fhi and lo > flo) then fhi, flo = hi, lo end
-- Nor are keys that were tied there alone.
local words = meta[5] or string.rep('\0', 74)
local alone = math.max(struct.unpack('>I8', words), tonumber(ARGV[4]))
redis.call('HSET', meta_key, 'e', ARGV[1],
  'k', struct.pack('>I8', alone) .. string.sub(words, 9),
  's', struct.pack('>I8I8I8I8', math.max(floor, tonumber(ARGV[2])), jn, jr, jb),
  'l', meta[3] or string.rep('\0', 24),
  'd', struct.pack('>I4I4I4I4I4I4I4I8B', ohi, olo, nhi, nlo, fhi, flo, count, opened, which),
  'g', jn,
  'o', string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)'))
redis.call('HINCRBY', meta_key, 'x', 1)
return jn
