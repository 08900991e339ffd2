# Heads of requests and responses, as seen by the other Cython modules of the data path.
#
# Order of use: zero a HeadScan, call `find_head_end` with all bytes since the message's start until it says more than 0,
# hand exactly those bytes to `parse_request` or `parse_response`. What these return owns a copy: the buffer may be reused.
# Spans are offsets into `raw`. The builders of what is sent on are in _build.pxd; the rules stand in docs/http.md.

from libc.stdint cimport int64_t, uint8_t, uint32_t


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

cdef enum FieldKind:
    KIND_PLAIN = 0     # end-to-end: forwarded as it is
    KIND_HOP           # never forwarded
    KIND_CONNECTION
    KIND_HOST
    KIND_LENGTH
    KIND_CODING        # Transfer-Encoding
    KIND_AUTHORIZATION
    KIND_EXPECT
    KIND_UPGRADE
    KIND_PINNED        # azureml-model-deployment
    KIND_REQUEST_ID    # x-request-id
    KIND_CLIENT_ID     # x-ms-client-request-id
    KIND_FOR           # X-Forwarded-For
    KIND_PROTO         # X-Forwarded-Proto
    KIND_FORWARDED_HOST
    KIND_FORWARDED
    KIND_REAL_IP
    KIND_ACCEPT
    KIND_AGENT
    KIND_DATE
    KIND_WS_KEY        # Sec-WebSocket-Key
    KIND_WS_VERSION


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

cdef struct HeadLimits:
    Py_ssize_t target_bytes
    Py_ssize_t header_bytes
    Py_ssize_t header_fields

cdef struct HeadScan:
    # where the search for a head's end stands; all zero before a head
    Py_ssize_t scanned # bytes searched so far
    Py_ssize_t line    # where the unfinished line starts
    Py_ssize_t first   # where the line after the request or status line starts; 0: not seen
    Py_ssize_t skipped # empty lines before the head
    Py_ssize_t lines   # field lines so far


cdef class Head:
    cdef bytes raw             # from the first line to the empty line, both included
    cdef Field* fields
    cdef Field inline_fields[32]
    cdef Py_ssize_t field_count
    cdef Py_ssize_t field_room
    cdef readonly int minor    # HTTP/1.minor
    cdef readonly str problem  # None: the head is good
    cdef int framing           # a Framing
    cdef readonly int64_t content_length  # as declared; -1: not declared
    cdef readonly bint keep_alive         # what this side of the connection said; a body's end decides the rest


cdef class RequestHead(Head):
    cdef readonly int status            # 0: good; else what to answer (with `problem` as text), and close
    cdef int method                     # a Method
    cdef readonly bint expect_continue
    cdef readonly bint websocket        # asks for a WebSocket in proper form, without a body
    cdef readonly bint upgrade_ignored  # asked for another protocol: serve it as if it had not asked
    cdef readonly bint wants_plain      # would rather read text/plain than JSON
    cdef readonly bytes target          # what is routed on: origin-form, or b"*"
    cdef readonly Py_ssize_t path_length  # of target, up to `?`
    cdef public bytes upstream_target   # what is forwarded; set by Router.route, target until then
    cdef Span method_name
    cdef Span host
    cdef Span authorization
    cdef Span pinned                    # the deployment that is asked for by name
    cdef Span user_agent
    cdef readonly bytes client_request_id  # cleaned; None: absent


cdef class ResponseHead(Head):
    cdef readonly int status            # the replica's status; meaningless when `problem` is set
    cdef Span reason
    cdef readonly bint switches         # 101 to websocket, in proper form
    cdef bint has_date
    # set by build_downstream_head
    cdef bint send_chunked              # the body has to be sent in chunks
    cdef bint send_close                # `Connection: close` was said: close after the body


# >0: the head is data[:result], empty lines before it included (scan.skipped bytes of them; parse_request skips them too).
# 0: not complete. <0: minus the status to refuse with (a response: any negative is a 502).
cdef Py_ssize_t find_head_end(HeadScan* scan, const char* data, Py_ssize_t n, const HeadLimits* limits,
                              bint response) noexcept nogil
cdef str head_problem(int status)       # the text that belongs to a negative result of find_head_end

cdef RequestHead parse_request(const char* data, Py_ssize_t length, const HeadLimits* limits)
# `method` is that of the request; `websocket` whether it asked for one (101 is a fault otherwise).
cdef ResponseHead parse_response(const char* data, Py_ssize_t length, int method, bint websocket)

cdef inline const char* span_start(Head head, Span span) noexcept:
    return <const char*>(<char*>head.raw) + span.at

cdef inline bytes span_bytes(Head head, Span span):
    return (<char*>head.raw)[span.at:span.at + span.length]
