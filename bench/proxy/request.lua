-- Load script of wrk: sends the bodies of a directory in turn, and prints what it counted as one line of JSON.
-- Arguments: directory (holds 0.json 1.json …), number of bodies, path, "close" for a connection a request or "new" for
-- a head of its own in each (a traceparent, as instrumented clients send it), then pairs of header name and value.
local requests, rests, turn, sent = {}, {}, 0, 0
local MARK = "00-00000000000000000000000000000000-0000000000000000-01"

function init(args)
    local directory, count, path, close = args[1], tonumber(args[2]), args[3], args[4]
    local headers = { ["Connection"] = close == "close" and "close" or "keep-alive" }
    for i = 5, #args - 1, 2 do headers[args[i]] = args[i + 1] end
    if close == "new" then headers["traceparent"] = MARK end
    for i = 0, count - 1 do
        local file = assert(io.open(directory .. "/" .. i .. ".json", "rb"))
        requests[i + 1] = wrk.format("POST", path, headers, file:read("*a"))
        file:close()
        local from, to = string.find(requests[i + 1], MARK, 1, true)
        if from then
            rests[i + 1] = string.sub(requests[i + 1], to + 1)
            requests[i + 1] = string.sub(requests[i + 1], 1, from - 1)
        end
    end
end

function request()
    turn = turn % #requests + 1
    if not rests[turn] then return requests[turn] end
    sent = sent + 1
    return requests[turn] .. string.format("00-%032x-%016x-01", sent, sent) .. rests[turn]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,'
            .. '"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f}\n',
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
        latency:percentile(50), latency:percentile(99), latency.max))
end
