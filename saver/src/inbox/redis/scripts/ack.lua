-- ARGV 3: most journal lines; then for each inbox: name, position (epoch I8, seq I8). Answers for each: 1 done, 0 the
-- inbox must be rebuilt; what there is of it is taken out all the same.
if jr - lr >= tonumber(ARGV[3]) then return redis.error_reply('BEHIND the journal is full') end
local out, rows = {}, {}
for i = 4, #ARGV, 2 do
  local h = head(ARGV[i])
  local done = 0
  if h then
    if not h.partial then done = 1 end
    local pe, ps = unpack_of('>I8I8', ARGV[i + 1])
    if pe <= E then
      local slots, slot, before = {}, h.first, #rows
      while slot < h.next do
        local v = call('HGET', h.key, slot)
        if v then
          local seq, be = unpack_of('>I8I8', v)
          if be > pe or seq > ps then break end
          rows[#rows + 1] = sub(v, 25, 32)
          h.n = h.n - 1
          drop(h, slots, slot, v)
        end
        slot = slot + 1
      end
      if #rows > before then
        h.first = slot
        h.jid = jn + 1
        remove(h, slots)
        call('HSET', h.key, 'h', packed(h))
      end
    end
  end
  out[#out + 1] = done
end
if #rows > 0 then
  finish(1, rows)
  close()
end
return out
