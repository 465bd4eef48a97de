-- ARGV 3..: name, what: 'd' how many wait, 'w' the newest that waits (seq, id), 'p' watch it. Answers nothing if the
-- inbox must be rebuilt.
local h = head(ARGV[3])
if not h or h.partial then return {} end
if ARGV[4] == 'p' then
  if not h.watched then
    watch(h, now)
    call('HSET', h.key, 'h', packed(h))
  end
  return { 1 }
end
if ARGV[4] == 'w' then
  for slot = h.next - 1, h.first, -1 do
    local v = call('HGET', h.key, slot)
    if v and unpack_of('>I8', v, 33) > now then return { 1, unpack_of('>I8', v), sub(v, 17, 24) } end
  end
  return { 0 }
end
local n = 0
for slot = h.first, h.next - 1 do
  local v = call('HGET', h.key, slot)
  if v and unpack_of('>I8', v, 33) > now then n = n + 1 end
end
return { n }
