-- ARGV 3..: seconds since 1970 before which an inbox is idle, most to look at. Lets go of idle inboxes whose changes
-- have all landed. Answers how many were looked at and how many let go.
local idle, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local looked, gone = 0, 0
while looked < most do
  local front = call('LINDEX', base .. 'r', 0)
  if not front or unpack_of('>I8', front) >= idle * 1000 then break end
  looked = looked + 1
  call('LPOP', base .. 'r')
  local name = sub(front, 9)
  local h, key, there = head(name)
  if there and (not h or (h.touched < idle and h.jid <= ln)) then
    call('UNLINK', key)
    if h then gone = gone + 1 end
  elseif there then
    call('RPUSH', base .. 'r', pack('>I8', now) .. name)
  end
end
if gone > 0 then call('HINCRBY', meta_key, 'x', gone) end
return { looked, gone }
