-- Cycles over the bodies of a file, one a line; the last line printed is what was measured, as JSON.
-- wrk ... -s wrk.lua URL -- BODIES [HEADER VALUE]...
local requests, place = {}, 0

function init(args)
  local headers = { ["content-type"] = "application/json" }
  for i = 2, #args - 1, 2 do headers[args[i]] = args[i + 1] end
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format(
    '{"requests":%d,"microseconds":%d,"p50":%g,"p99":%g,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
