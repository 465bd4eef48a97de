-- ARGV 3..: names. Answers how many inboxes were let go so far, and for each name 1 if it must be rebuilt.
local out = { tonumber(meta[4] or 0) }
for i = 3, #ARGV do
  local h = head(ARGV[i])
  out[#out + 1] = (not h or h.partial) and 1 or 0
end
return out
