-- Load script of wrk: sends the bodies of a directory in turn, and prints what it counted as one line of JSON.
-- Arguments: directory (holds 0.json 1.json …), number of bodies, path, "close" for a connection a request,
-- then pairs of header name and value.
local requests, turn = {}, 0

function init(args)
    local directory, count, path, close = args[1], tonumber(args[2]), args[3], args[4]
    local headers = { ["Connection"] = close == "close" and "close" or "keep-alive" }
    for i = 5, #args - 1, 2 do headers[args[i]] = args[i + 1] end
    for i = 0, count - 1 do
        local file = assert(io.open(directory .. "/" .. i .. ".json", "rb"))
        requests[i + 1] = wrk.format("POST", path, headers, file:read("*a"))
        file:close()
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,'
            .. '"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f}\n',
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
        latency:percentile(50), latency:percentile(99), latency.max))
end
