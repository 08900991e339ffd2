"""The form of an access line: which fields, in which order, and how what a client chose is escaped.

Owns: both forms (JSON, and `key=value` for people), the clock's text; beside it the numbers in a refusal's body, which
are those of its line. Never: queries, credentials, bodies; the buffer and the sink (`access_log.py`). What a client
chose stands in quotes and is printable ASCII: it cannot end a line, pose as a field, or speak to a terminal. A line has
less than PIPE_BUF bytes, so that a pipe takes it in one piece.
"""

import time

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from fe._core cimport DeploymentState
from fe.proxy._build cimport Peer
from fe.proxy._head cimport RequestHead, span_start
from fe.proxy._writer cimport Scratch, Writer, close_writer, open_writer, put, put_bytes, put_number

cdef enum:
    LONGEST_METHOD = 16
    LONGEST_PATH = 1000      # of visible ASCII: at most twice that when it is escaped
    LONGEST_AGENT = 200      # six times that
    LONGEST_NAME = 64
    ROOM = 4096
    STATE_ROOM = 512

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
    if facts.met != NULL:
        _put_met(out, form, facts.met)


cdef void _put_met(Writer* out, const Form* form, const DeploymentState* met) noexcept nogil:
    _put_key(out, form, b"in_flight", 9)
    put_number(out, met.in_flight)
    if met.capacity:
        _put_key(out, form, b"capacity", 8)
        put_number(out, _places(met))
    _put_key(out, form, b"ready", 5)
    put_number(out, met.ready)
    _put_key(out, form, b"queue_length", 12)
    put_number(out, met.queue_length)


cdef inline int64_t _places(const DeploymentState* state) noexcept nogil:
    return <int64_t> state.capacity * state.ready


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


# --- The state in a refusal ------------------------------------------------------------------------------------------


cdef bytes build_state(bint plain, const DeploymentState* state, int64_t waited_ns):
    cdef Writer writer
    cdef Writer* out = &writer
    open_writer(out, &_scratch, STATE_ROOM)
    if plain:
        _put_sentence(out, state, waited_ns)
    else:
        _put_object(out, state, waited_ns)
    return close_writer(out)


cdef void _put_object(Writer* out, const DeploymentState* state, int64_t waited_ns) noexcept nogil:
    put(out, b', "state": {"in_flight": ', 25)
    put_number(out, state.in_flight)
    put(out, b', "capacity": ', 14)
    if state.capacity:
        put_number(out, _places(state))
    else:
        put(out, b"null", 4)
    put(out, b', "ready_replicas": ', 20)
    put_number(out, state.ready)
    put(out, b', "queue_length": ', 18)
    put_number(out, state.queue_length)
    put(out, b', "max_queue_length": ', 22)
    put_number(out, state.max_queue)
    put(out, b', "waited_ms": ', 15)
    _put_tenths(out, waited_ns)
    put(out, b"}", 1)


cdef void _put_sentence(Writer* out, const DeploymentState* state, int64_t waited_ns) noexcept nogil:
    put(out, b"In flight: ", 11)
    put_number(out, state.in_flight)
    if state.capacity:
        put(out, b" of ", 4)
        put_number(out, _places(state))
    put(out, b"; ready replicas: ", 18)
    put_number(out, state.ready)
    put(out, b"; waiting: ", 11)
    put_number(out, state.queue_length)
    put(out, b" of ", 4)
    put_number(out, state.max_queue)
    put(out, b"; this request waited ", 22)
    _put_tenths(out, waited_ns)
    put(out, b" ms.\n", 5)


cdef void _put_tenths(Writer* out, int64_t ns) noexcept nogil:
    """Milliseconds with one digit behind the point."""
    cdef int64_t tenths = ns // 100000 if ns > 0 else 0
    put_number(out, tenths // 10)
    put(out, b".", 1)
    put_number(out, tenths % 10)


# --- For tests and tools ---------------------------------------------------------------------------------------------


def line(RequestHead head, Peer peer, bytes request_id, *, bint json=True, str endpoint=None, str deployment=None,
         str reason=None, int status=200, int model_status=0, int64_t request_bytes=0, int64_t response_bytes=0,
         int64_t total_ns=0, int64_t queue_ns=0, int64_t model_ns=0, met=None) -> bytes:
    """`build_line`."""
    cdef Facts facts
    cdef DeploymentState load
    facts.met = NULL
    if met is not None:
        load = _state_of(met)
        facts.met = &load
    facts.status = status
    facts.model_status = model_status
    facts.request_bytes = request_bytes
    facts.response_bytes = response_bytes
    facts.total_ns = total_ns
    facts.queue_ns = queue_ns
    facts.model_ns = model_ns
    return build_line(json, head, peer, request_id, endpoint, deployment, reason, &facts)


def state(met, int64_t waited_ns=0, *, bint plain=False) -> bytes:
    """`build_state`."""
    cdef DeploymentState load = _state_of(met)
    return build_state(plain, &load, waited_ns)


cdef DeploymentState _state_of(tuple met) except *:
    cdef DeploymentState load
    load.in_flight, load.capacity, load.ready, load.queue_length, load.max_queue = met
    return load
