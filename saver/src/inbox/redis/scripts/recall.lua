-- ARGV 3..: name, id. Answers -1 if the inbox must be rebuilt, the row that was taken out, or nothing.
local h = head(ARGV[3])
if not h or h.partial then return -1 end
for slot = h.first, h.next - 1 do
  local v = call('HGET', h.key, slot)
  if v and sub(v, 17, 24) == ARGV[4] then
    h.n = h.n - 1
    h.jid = jn + 1
    local row = sub(v, 25, 32)
    finish(5, { row })
    local slots = {}
    drop(h, slots, slot, v)
    remove(h, slots)
    call('HSET', h.key, 'h', packed(h))
    close()
    return row
  end
end
return false
