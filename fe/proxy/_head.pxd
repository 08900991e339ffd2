# Heads of requests and responses, as seen by the other Cython modules of the data path.
#
# Order of use: zero a HeadScan, call `find_head_end` with all bytes since the message's start until it says more than
# 0, hand exactly those bytes to `parse_request` or `parse_response`. What these return owns a copy: the buffer may be
# used again.
# Spans are offsets into `raw`. The builders of what is sent on are in _build.pxd.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t


cdef enum Method:
    METHOD_GET = 0
    METHOD_HEAD = 1
    METHOD_POST = 2
    METHOD_PUT = 3
    METHOD_DELETE = 4
    METHOD_PATCH = 5
    METHOD_OPTIONS = 6
    METHOD_OTHER = 7   # only in a head that is refused

cdef enum Framing:
    BODY_NONE = 0      # no body at all
    BODY_LENGTH = 1    # content_length bytes, perhaps 0
    BODY_CHUNKED = 2
    BODY_CLOSE = 3     # a response's: until the connection's end

cdef enum:  # what a field is, by its name
    KIND_PLAIN = 0     # end-to-end: forwarded as it is
    KIND_ACCEPT = 1
    KIND_AGENT = 2
    KIND_DATE = 3
    KIND_WS_KEY = 4    # Sec-WebSocket-Key
    KIND_WS_VERSION = 5
    KIND_PINNED = 6    # azureml-model-deployment
    KIND_AUTHORIZATION = 7
    KIND_LAST_FORWARDED = 7  # up to here a request's fields are forwarded, from here on only as fe writes them
    KIND_HOP = 8       # never forwarded
    KIND_CONNECTION = 9
    KIND_HOST = 10
    KIND_LENGTH = 11
    KIND_CODING = 12   # Transfer-Encoding
    KIND_EXPECT = 13
    KIND_UPGRADE = 14
    KIND_REQUEST_ID = 15    # x-request-id
    KIND_CLIENT_ID = 16     # x-ms-client-request-id
    KIND_FOR = 17           # X-Forwarded-For
    KIND_PROTO = 18         # X-Forwarded-Proto
    KIND_FORWARDED_HOST = 19
    KIND_FORWARDED = 20
    KIND_REAL_IP = 21
    KIND_FORWARDED_OTHER = 22  # any other X-Forwarded-*: believed from trusted peers only
    KINDS = 23


cdef struct Span:
    uint32_t at
    uint32_t length    # 0: absent or empty

cdef struct Field:
    uint32_t name
    uint32_t name_length
    uint32_t value     # without the blanks around it
    uint32_t value_length
    uint8_t kind
    uint8_t dropped    # listed in Connection, or a name with `_`: not forwarded

cdef enum: INLINE_FIELDS = 24

cdef struct Fields:
    # the field lines of one head, in order
    Field* list        # `own` or memory from the heap
    Py_ssize_t count
    Py_ssize_t room
    uint16_t seen[KINDS]     # how many of each kind
    uint16_t last[KINDS]     # index of the last of each kind, where seen
    Field own[INLINE_FIELDS]

cdef struct HeadLimits:
    Py_ssize_t target_bytes
    Py_ssize_t header_bytes
    Py_ssize_t header_fields

cdef struct HeadScan:
    # where the search for a head's end stands; all zero before a head
    Py_ssize_t scanned  # bytes searched so far
    Py_ssize_t line    # where the unfinished line starts
    Py_ssize_t first   # where the line after the request or status line starts; 0: not seen
    Py_ssize_t skipped  # bytes of empty lines before the head
    Py_ssize_t lines   # field lines so far


cdef class RequestHead:
    cdef bytes raw             # from the first line to the empty line, both included
    cdef Fields fields
    cdef readonly int status   # 0: good; else what to answer (with `problem` as text), and close
    cdef readonly str problem
    cdef readonly int minor    # HTTP/1.minor
    cdef int method            # a Method
    cdef int framing           # a Framing
    cdef readonly int64_t content_length  # as declared; -1: not declared
    cdef readonly bint keep_alive         # the client allows another request after this one
    cdef readonly bint expect_continue    # waits for a 100 before it sends its body
    cdef readonly bint websocket          # asks for a WebSocket in proper form, without a body
    cdef readonly bint upgrade_ignored    # asked for another protocol: serve it as if it had not asked
    cdef readonly bytes target            # what is routed on: origin-form, or b"*"
    cdef readonly Py_ssize_t path_length  # of target, up to `?`
    cdef public bytes upstream_target     # what is forwarded; set by Router.route, the same as target until then
    cdef Span method_name
    cdef Span host                        # with its port
    cdef Py_ssize_t host_length           # without its port
    cdef Span authorization
    cdef Span pinned                      # the deployment that is asked for by name
    cdef Span user_agent
    cdef readonly bytes client_request_id  # cleaned; None: absent
    cpdef bint wants_plain(self)          # would rather read text/plain than JSON; looked at only for fe's own answers


cdef class ResponseHead:
    cdef bytes raw
    cdef Fields fields
    cdef readonly str problem  # None: the head is good; else a 502
    cdef readonly int minor
    cdef readonly int status
    cdef int framing           # a Framing: decided with the request's method
    cdef readonly int64_t content_length  # as declared; -1: not declared
    cdef readonly bint keep_alive         # the connection may be used again once the body has ended cleanly
    cdef readonly bint switches           # 101 to websocket, in proper form
    cdef Span reason
    # set by build_downstream_head
    cdef readonly bint send_chunked       # the body has to be sent in chunks
    cdef readonly bint send_close         # `Connection: close` was said: close after the body


# >0: the head is data[:result], empty lines before it included (scan.skipped bytes; parse_request skips them too).
# 0: not complete. <0: minus the status to refuse with (a response: any negative is a 502).
cdef Py_ssize_t find_head_end(HeadScan* scan, const char* data, Py_ssize_t n, const HeadLimits* limits,
                              bint response) noexcept nogil
cdef str head_problem(Py_ssize_t status)  # the text that belongs to a negative result of find_head_end

cdef RequestHead parse_request(const char* data, Py_ssize_t length, const HeadLimits* limits)
# `method` is that of the request; `websocket` whether the replica was asked for one (101 is a fault otherwise).
cdef ResponseHead parse_response(const char* data, Py_ssize_t length, int method, bint websocket)

cdef inline const char* span_start(bytes raw, Span span) noexcept:
    return <const char*>(<char*>raw) + span.at

cdef inline bytes span_bytes(bytes raw, Span span):
    return (<char*>raw)[span.at:span.at + span.length]
