"""Every limit of the ingress, named, with its unit and why it is what it is.

Imported by the modules that enforce them.
"""

# One request.
MAX_BODY_BYTES = 16 * 1024  # what moves money; most are below 1 KiB
MAX_LARGE_BODY_BYTES = 96 * 1024  # a payment or a completion: encrypted card fields have up to 60,000 characters
MAX_WEBHOOK_BYTES = 64 * 1024  # a gateway's notice is below 32 KiB
MAX_REQUEST_LINE_BYTES = 8 * 1024  # a self-routing payment id is below 250 characters
MAX_HEADER_BYTES = 8 * 1024  # one header; the largest of ours is an idempotency key of 255 characters
MAX_HEADERS = 64
READ_BUFFER_BYTES = 16 * 1024  # of a connection, then it waits; a 16th of it is how many chunks are read at once
MAX_LIST_CHARS = 2 * 1024  # `Accept` and `Prefer`, all lines together; a browser's are below 300
MAX_BACKLOG = 1024  # connections that the kernel holds before they are taken
MAX_JSON_DEPTH = 16  # our bodies have depth 3; foreign ones must not cost a deep recursion
MAX_FIELD_ERRORS = 20  # faults listed in one problem
MAX_POINTER_CHARS = 128  # a client's own field name comes back only this far
MAX_TRACESTATE_CHARS = 512  # W3C Trace Context section 3.3.1.5

# Time.
BODY_READ_TIMEOUT_S = 10.0  # a client that sends a body slower than this is broken or hostile
KEEP_ALIVE_TIMEOUT_S = (
    75.0  # above the usual 60 s of load balancers, so that they close first; also bounds slow headers
)
LINGERING_TIME_S = 2.0  # what comes of a refused body is thrown away so long, for the client to see the answer
LINGERING_BYTES = 1024 * 1024  # of a refused body that are thrown away; then the connection is closed at once
APPEND_TIMEOUT_S = 5.0  # then 503: the client retries with its key
QUERY_TIMEOUT_S = 5.0  # a read through the log takes milliseconds
ASYNC_WAIT_S = 2.0  # for the claim, which takes milliseconds; then 202 all the same, since the command is durable
MAX_SYNC_WAIT_S = 30  # cap of `Prefer: wait=N`; below the usual idle time-outs of proxies
DRAIN_TIMEOUT_S = 15.0  # at a stop: what waits gets this long for its answer, then a 202
RELEASED_ANSWER_TIMEOUT_S = 5.0  # then the connections are closed

# Retry hints, whole seconds, as HTTP has them.
RETRY_AFTER_LOG_S = 2
RETRY_AFTER_FULL_S = 1
RETRY_AFTER_DRAIN_S = 5
RETRY_AFTER_IN_DOUBT_S = 30

# Origins.
MAX_ORIGINS_TRACKED = 10_000  # token buckets kept; the least recently seen goes first
RATE_BURST_S = 2  # an idle origin may send this many seconds' worth at once
MAX_API_KEYS = 100_000
MAX_KEY_FILE_BYTES = 64 * 1024 * 1024
KEY_FILE_CHECK_INTERVAL_S = 2.0  # a revoked key works no longer than this, the last one twice as long
MAX_API_KEY_CHARS = 256

# The reply feed.
MAX_REPLIES_PER_READ = 1_000
REPLY_READ_TIMEOUT_S = 1.0  # one empty poll
FEED_CLOSE_TIMEOUT_S = 5.0
REPLY_FEED_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)  # between attempts to open a lost feed; the last one repeats
