-- ARGV 3..: patience in ms, most to name. Answers names of inboxes that have held a message for so long.
local patience, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local out, looked = {}, 0
while #out < most and looked < 4 * most do
  looked = looked + 1
  local front = call('LINDEX', base .. 'w', 0)
  if not front or unpack_of('>I8', front) + patience > now then break end
  call('LPOP', base .. 'w')
  local name = sub(front, 9)
  local h = head(name)
  if not h then
    -- Let go, perhaps with messages in it.
    out[#out + 1] = name
  else
    h.watched = false
    local v
    while h.first < h.next and not v do
      v = call('HGET', h.key, h.first)
      if not v then h.first = h.first + 1 end
    end
    if v then
      local oldest = unpack_of('>I8', v, 41)
      if oldest + patience > now then watch(h, oldest) else out[#out + 1] = name end
    end
    call('HSET', h.key, 'h', pack(HEAD, E, h.first, h.next, h.last, h.n, h.loaded, h.jid, h.begin, h.touched,
      (h.partial and 1 or 0) + (h.watched and 2 or 0)))
  end
end
return out
