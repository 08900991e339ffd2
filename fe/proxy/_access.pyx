"""The form of an access line: which fields, in which order, and how what a client chose is escaped.

Owns: both forms (JSON, and `key=value` for people), the clock's text. Never: queries, credentials, bodies; the buffer
and the sink (`access_log.py`). What a client chose stands in quotes and is printable ASCII: it cannot end a line, pose
as a field, or speak to a terminal. A line has less than PIPE_BUF bytes, so that a pipe takes it in one piece.
"""

import time

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from fe.proxy._build cimport Peer
from fe.proxy._head cimport RequestHead, span_start
from fe.proxy._writer cimport Scratch, Writer, close_writer, open_writer, put, put_bytes, put_number

cdef enum:
    LONGEST_METHOD = 16
    LONGEST_PATH = 1000      # of visible ASCII: at most twice that when it is escaped
    LONGEST_AGENT = 200      # six times that
    LONGEST_NAME = 64
    ROOM = 4096

cdef Scratch _scratch
_scratch.memory = NULL
_scratch.room = 0

cdef bytes _second_text = b""
cdef int64_t _second = -1


cdef int _put_now(Writer* out) except -1:
    """RFC 3339 in UTC with milliseconds; the costly part changes once a second."""
    global _second, _second_text
    cdef timespec now
    cdef int64_t milliseconds
    clock_gettime(CLOCK_REALTIME, &now)
    if now.tv_sec != _second:
        _second = now.tv_sec
        _second_text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(_second)).encode("ascii")
    put_bytes(out, _second_text)
    milliseconds = now.tv_nsec // 1000000
    _put_thousandths(out, milliseconds)
    put(out, b"Z", 1)
    return 0


cdef void _put_thousandths(Writer* out, int64_t number) noexcept nogil:
    """Three digits."""
    cdef char digits[3]
    digits[0] = c'0' + number // 100 % 10
    digits[1] = c'0' + number // 10 % 10
    digits[2] = c'0' + number % 10
    put(out, digits, 3)


cdef void _put_ms(Writer* out, int64_t ns) noexcept nogil:
    cdef int64_t us = ns // 1000 if ns > 0 else 0
    put_number(out, us // 1000)
    put(out, b".", 1)
    _put_thousandths(out, us % 1000)


cdef void _put_quoted(Writer* out, const char* text, Py_ssize_t n, Py_ssize_t longest) noexcept nogil:
    """As a JSON string; bytes beyond ASCII as the Latin-1 characters of their number, so that none is lost."""
    cdef Py_ssize_t i
    cdef unsigned char c
    put(out, b'"', 1)
    for i in range(n if n < longest else longest):
        c = text[i]
        if c < 0x20 or c >= 0x7F:
            put(out, b"\\u00", 4)
            out.at[0] = b"0123456789abcdef"[c >> 4]
            out.at[1] = b"0123456789abcdef"[c & 15]
            out.at += 2
            continue
        if c == c'"' or c == c'\\':
            put(out, b"\\", 1)
        out.at[0] = c
        out.at += 1
    put(out, b'"', 1)


cdef struct Form:
    # what stands around keys and values
    const char* before      # a key, after the first
    const char* between     # key and value
    bint quoted             # are names quoted, too

cdef Form JSON
JSON.before = b',"'
JSON.between = b'":'
JSON.quoted = True

cdef Form PEOPLE
PEOPLE.before = b" "
PEOPLE.between = b"="
PEOPLE.quoted = False


cdef void _put_key(Writer* out, const Form* form, const char* key, Py_ssize_t n) noexcept nogil:
    put(out, form.before, 2 if form.quoted else 1)
    put(out, key, n)
    put(out, form.between, 2 if form.quoted else 1)


cdef void _put_name(Writer* out, const Form* form, const char* key, Py_ssize_t n, bytes value) noexcept:
    """A value that is known to be harmless: checked by the configuration, or made by fe."""
    if not value:
        return
    _put_key(out, form, key, n)
    if form.quoted:
        put(out, b'"', 1)
    put(out, value, len(value) if len(value) < LONGEST_NAME else LONGEST_NAME)
    if form.quoted:
        put(out, b'"', 1)


cdef bytes _ascii(str text):
    return None if text is None else text.encode("ascii", "replace")


cdef void _put_facts(Writer* out, const Form* form, const Facts* facts) noexcept nogil:
    if facts.model_status:
        _put_key(out, form, b"model_status", 12)
        put_number(out, facts.model_status)
    _put_key(out, form, b"request_bytes", 13)
    put_number(out, facts.request_bytes)
    _put_key(out, form, b"response_bytes", 14)
    put_number(out, facts.response_bytes)
    _put_key(out, form, b"total_ms", 8)
    _put_ms(out, facts.total_ns)
    _put_key(out, form, b"queue_ms", 8)
    _put_ms(out, facts.queue_ns)
    _put_key(out, form, b"model_ms", 8)
    _put_ms(out, facts.model_ns)


cdef bytes build_line(bint json, RequestHead head, Peer peer, bytes request_id, str endpoint, str deployment,
                      str reason, const Facts* facts):
    cdef Writer writer
    cdef Writer* out = &writer
    cdef const Form* form = &JSON if json else &PEOPLE
    open_writer(out, &_scratch, ROOM)
    if json:
        put(out, b'{"time":"', 9)
    _put_now(out)
    if json:
        put(out, b'"', 1)
    _put_key(out, form, b"status", 6)
    put_number(out, facts.status)
    _put_key(out, form, b"method", 6)
    _put_quoted(out, span_start(head.raw, head.method_name), head.method_name.length, LONGEST_METHOD)
    if head.target is not None:
        _put_key(out, form, b"path", 4)
        _put_quoted(out, head.target, head.path_length, LONGEST_PATH)
    _put_name(out, form, b"endpoint", 8, _ascii(endpoint))
    _put_name(out, form, b"deployment", 10, _ascii(deployment))
    _put_name(out, form, b"reason", 6, _ascii(reason))
    _put_facts(out, form, facts)
    _put_name(out, form, b"id", 2, request_id)
    _put_name(out, form, b"client_id", 9, head.client_request_id)
    _put_name(out, form, b"peer", 4, peer.address)
    if head.user_agent.length:
        _put_key(out, form, b"user_agent", 10)
        _put_quoted(out, span_start(head.raw, head.user_agent), head.user_agent.length, LONGEST_AGENT)
    if json:
        put(out, b"}", 1)
    return close_writer(out)


# --- For tests and tools ---------------------------------------------------------------------------------------------


def line(RequestHead head, Peer peer, bytes request_id, *, bint json=True, str endpoint=None, str deployment=None,
         str reason=None, int status=200, int model_status=0, int64_t request_bytes=0, int64_t response_bytes=0,
         int64_t total_ns=0, int64_t queue_ns=0, int64_t model_ns=0) -> bytes:
    """`build_line`."""
    cdef Facts facts
    facts.status = status
    facts.model_status = model_status
    facts.request_bytes = request_bytes
    facts.response_bytes = response_bytes
    facts.total_ns = total_ns
    facts.queue_ns = queue_ns
    facts.model_ns = model_ns
    return build_line(json, head, peer, request_id, endpoint, deployment, reason, &facts)
