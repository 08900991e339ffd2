"""Heads that are sent on, in one canonical form: to the replica, back to the client, and the ids that go with them.

Owns: which fields pass this hop, which are written by fe, in which order; the framing announced downstream. Never: raw
heads passed on, a decision about whether a head is good (`_head.pyx`). Everything is written into one kept buffer,
whose room is taken before it is written: a head is at most as long as what was received (a line can grow by the blank
after its colon) and what fe adds.
Read `_build.pxd` for the interface.
"""

import os
from time import gmtime

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.time cimport time, time_t

from fe.proxy._chunked cimport put_chunk_head
from fe.proxy._head cimport (
    BODY_LENGTH, BODY_NONE, Field, Fields, KIND_AUTHORIZATION, KIND_DATE, KIND_FOR, KIND_FORWARDED,
    KIND_FORWARDED_HOST, KIND_FORWARDED_OTHER, KIND_HOP, KIND_LAST_FORWARDED, KIND_PINNED, KIND_PROTO, KIND_REAL_IP,
    METHOD_HEAD, METHOD_PATCH, METHOD_POST, METHOD_PUT, RequestHead, ResponseHead, Span,
)
from fe.proxy._writer cimport Scratch, Writer, close_writer, open_writer, put, put_bytes, put_number, put_span

cdef enum:
    ADDED_ROOM = 1024   # more than all constant text and numbers that one head can get
    ID_LENGTH = 36


# --- Writing ---------------------------------------------------------------------------------------------------------

cdef Scratch _scratch
_scratch.memory = NULL
_scratch.room = 0


cdef inline void _put_field(Writer* out, const char* base, const Field* field) noexcept nogil:
    cdef Py_ssize_t whole = field.name_length + 2 + field.value_length
    if field.value == field.name + field.name_length + 2 and base[field.value - 1] == c' ':
        put(out, base + field.name, whole)  # most lines are canonical already
    else:
        put(out, base + field.name, field.name_length)
        put(out, b": ", 2)
        put(out, base + field.value, field.value_length)
    put(out, b"\r\n", 2)


# --- Who asks --------------------------------------------------------------------------------------------------------


@cython.final
cdef class Peer:
    """The other end of a client connection: `address` is None on a unix socket. What it adds to heads is built once."""

    def __cinit__(self, str address, bint trusted=False, str scheme="http"):
        self.address = b"unknown" if address is None else address.encode("ascii")
        self.trusted = trusted
        self.scheme = scheme.encode("ascii")
        # RFC 7239 6: an IPv6 address stands in brackets and quotes.
        node = b'"[' + self.address + b']"' if b":" in self.address else self.address
        self.forwarded_for = b"for=" + node + b";proto=" + self.scheme
        self.forwarded_block = (
            b"X-Forwarded-For: " + self.address
            + b"\r\nX-Forwarded-Proto: " + self.scheme
            + b"\r\nX-Real-IP: " + self.address + b"\r\nForwarded: " + self.forwarded_for
        )


cdef void _put_joined(Writer* out, Fields* fields, const char* base, int kind) noexcept nogil:
    """The values of all fields of a kind, each followed by a comma: what a trusted peer said before."""
    cdef Py_ssize_t i
    cdef Field* field
    if not fields.seen[kind]:
        return
    for i in range(fields.count):
        field = fields.list + i
        if field.kind == kind and field.value_length:
            put(out, base + field.value, field.value_length)
            put(out, b", ", 2)


cdef inline Py_ssize_t _last_length(Fields* fields, int kind) noexcept nogil:
    return fields.list[fields.last[kind]].value_length if fields.seen[kind] else 0


cdef void _put_kept(Writer* out, Fields* fields, const char* base, int kind, bytes otherwise) noexcept:
    """What the trusted peer said last, else our own word."""
    if _last_length(fields, kind):
        put(out, base + fields.list[fields.last[kind]].value, _last_length(fields, kind))
    else:
        put_bytes(out, otherwise)


cdef void _put_forwarding(Writer* out, RequestHead head, Peer peer) noexcept:
    """Where the request came from: our word alone, or added to that of a trusted peer."""
    cdef Span host = head.host
    cdef Fields* fields = &head.fields
    cdef const char* base = PyBytes_AS_STRING(head.raw)
    if not peer.trusted:
        put_bytes(out, peer.forwarded_block)
    else:
        put(out, b"X-Forwarded-For: ", 17)
        _put_joined(out, fields, base, KIND_FOR)
        put_bytes(out, peer.address)
        put(out, b"\r\nX-Forwarded-Proto: ", 21)
        _put_kept(out, fields, base, KIND_PROTO, peer.scheme)
        put(out, b"\r\nX-Real-IP: ", 13)
        _put_kept(out, fields, base, KIND_REAL_IP, peer.address)
        put(out, b"\r\nForwarded: ", 13)
        _put_joined(out, fields, base, KIND_FORWARDED)
        put_bytes(out, peer.forwarded_for)
    if head.host.length:
        put(out, b";host=\"", 7)
        put_span(out, head.raw, head.host)
        put(out, b"\"", 1)
    put(out, b"\r\n", 2)
    if peer.trusted and _last_length(fields, KIND_FORWARDED_HOST):
        host.at = fields.list[fields.last[KIND_FORWARDED_HOST]].value
        host.length = _last_length(fields, KIND_FORWARDED_HOST)
    if host.length:
        put(out, b"X-Forwarded-Host: ", 18)
        put_span(out, head.raw, host)
        put(out, b"\r\n", 2)


# --- To the replica --------------------------------------------------------------------------------------------------


cdef bytes build_upstream_head(RequestHead head, Peer peer, bytes request_id, int64_t body, int flags,
                               const char* tail, Py_ssize_t tail_length):
    cdef Writer writer
    cdef Writer* out = &writer
    open_writer(
        out, &_scratch,
        len(head.raw) + head.fields.count + len(head.upstream_target) + 3 * head.host.length
        + 2 * len(peer.forwarded_block) + len(request_id) + tail_length + ADDED_ROOM,
    )
    put_span(out, head.raw, head.method_name)
    put(out, b" ", 1)
    put_bytes(out, head.upstream_target)
    put(out, b" HTTP/1.1\r\nHost: ", 17)
    if head.host.length:
        put_span(out, head.raw, head.host)
    else:
        put(out, b"localhost", 9)  # HTTP/1.0 may name none, HTTP/1.1 has to
    put(out, b"\r\n", 2)
    _put_end_to_end(out, head, flags & STRIP_AUTHORIZATION, peer.trusted)
    _put_ids(out, request_id, head.client_request_id)
    _put_forwarding(out, head, peer)
    if flags & SEND_UPGRADE:
        put(out, b"Connection: Upgrade\r\nUpgrade: websocket\r\n", 41)
    # Without a Connection field otherwise: HTTP/1.1 persists unless it is told not to.
    if body == UPSTREAM_CHUNKED:
        put(out, b"Transfer-Encoding: chunked\r\n", 28)
    elif body >= 0 or head.method in (METHOD_POST, METHOD_PUT, METHOD_PATCH):
        put(out, b"Content-Length: ", 16)
        put_number(out, body if body >= 0 else 0)
        put(out, b"\r\n", 2)
    put(out, b"\r\n", 2)
    if tail_length:
        put(out, tail, tail_length)
    return close_writer(out)


cdef void _put_end_to_end(Writer* out, RequestHead head, bint strip_authorization, bint trusted) noexcept:
    """The client's own fields that pass this hop, in their order and under their names."""
    cdef const char* base = PyBytes_AS_STRING(head.raw)
    cdef Py_ssize_t i
    cdef Field* field
    for i in range(head.fields.count):
        field = head.fields.list + i
        if field.dropped or (field.kind == KIND_AUTHORIZATION and strip_authorization):
            continue
        if field.kind <= KIND_LAST_FORWARDED or (field.kind == KIND_FORWARDED_OTHER and trusted):
            _put_field(out, base, field)


cdef void _put_ids(Writer* out, bytes request_id, bytes client_request_id) noexcept:
    put(out, b"x-request-id: ", 14)
    put_bytes(out, request_id)
    put(out, b"\r\n", 2)
    if client_request_id is not None:
        put(out, b"x-ms-client-request-id: ", 24)
        put_bytes(out, client_request_id)
        put(out, b"\r\n", 2)


# --- To the client ---------------------------------------------------------------------------------------------------


cdef bytes build_downstream_head(ResponseHead response, RequestHead request, bytes request_id, bytes deployment_line,
                                 bint close, const char* tail, Py_ssize_t tail_length, bint last):
    cdef Writer writer
    cdef Writer* out = &writer
    cdef bint unknown = response.framing != BODY_NONE and response.framing != BODY_LENGTH
    response.send_chunked = unknown and request.minor == 1
    response.send_close = close or not request.keep_alive or (unknown and not response.send_chunked)
    open_writer(out, &_scratch, _answer_room(response) + len(request_id) + len(deployment_line) + tail_length)
    _put_answer(out, response, request_id, request.client_request_id, deployment_line)
    if response.send_chunked:
        put(out, b"Transfer-Encoding: chunked\r\n", 28)
    elif response.content_length >= 0 and (response.framing == BODY_LENGTH or _may_declare(response, request)):
        put(out, b"Content-Length: ", 16)
        put_number(out, response.content_length)
        put(out, b"\r\n", 2)
    if response.send_close:
        put(out, b"Connection: close\r\n", 19)
    put(out, b"\r\n", 2)
    if response.send_chunked:
        _put_chunk(out, tail, tail_length, last)
    elif tail_length:
        put(out, tail, tail_length)
    return close_writer(out)


cdef inline Py_ssize_t _answer_room(ResponseHead response) noexcept:
    return len(response.raw) + response.fields.count + ADDED_ROOM


cdef inline bint _may_declare(ResponseHead response, RequestHead request) noexcept:
    """A length without a body: of the answer that GET would have got. 204 must not have one (RFC 9110 8.6)."""
    return response.status == 304 or (request.method == METHOD_HEAD and response.status != 204)


cdef void _put_chunk(Writer* out, const char* data, Py_ssize_t n, bint last) noexcept nogil:
    if n:
        out.at += put_chunk_head(out.at, n)
        put(out, data, n)
        put(out, b"\r\n", 2)
    if last:
        put(out, b"0\r\n\r\n", 5)


cdef void _put_status_line(Writer* out, ResponseHead response) noexcept:
    put(out, b"HTTP/1.1 ", 9)
    put(out, PyBytes_AS_STRING(response.raw) + 9, 3)
    put(out, b" ", 1)
    put_span(out, response.raw, response.reason)
    put(out, b"\r\n", 2)


cdef void _put_answer(Writer* out, ResponseHead response, bytes request_id, bytes client_request_id,
                      bytes deployment_line) noexcept:
    """Status line and every field that has nothing to do with framing."""
    cdef const char* base = PyBytes_AS_STRING(response.raw)
    cdef Py_ssize_t i
    cdef Field* field
    _put_status_line(out, response)
    for i in range(response.fields.count):
        field = response.fields.list + i
        if not field.dropped and _passes_down(field.kind):
            _put_field(out, base, field)
    if not response.fields.seen[KIND_DATE]:
        put(out, b"Date: ", 6)  # RFC 9110 6.6.1: who passes on an answer without a date, dates it
        put_bytes(out, _date())
        put(out, b"\r\n", 2)
    put_bytes(out, deployment_line)
    _put_ids(out, request_id, client_request_id)


cdef inline bint _passes_down(uint8_t kind) noexcept nogil:
    """Of a response: all but the hop's own fields and the three that fe writes. A request's origin is plain here."""
    return kind < KIND_HOP and kind != KIND_PINNED or kind >= KIND_FOR


cdef bytes build_interim_head(ResponseHead response):
    """103 Early Hints and its like, for clients of HTTP/1.1 only."""
    cdef Writer writer
    cdef Writer* out = &writer
    cdef Py_ssize_t i
    cdef Field* field
    open_writer(out, &_scratch, _answer_room(response))
    _put_status_line(out, response)
    for i in range(response.fields.count):
        field = response.fields.list + i
        if not field.dropped and _passes_down(field.kind):
            _put_field(out, PyBytes_AS_STRING(response.raw), field)
    put(out, b"\r\n", 2)
    return close_writer(out)


cdef bytes build_switch_head(ResponseHead response, bytes request_id, bytes client_request_id, bytes deployment_line):
    cdef Writer writer
    cdef Writer* out = &writer
    open_writer(out, &_scratch, _answer_room(response) + len(request_id) + len(deployment_line))
    _put_answer(out, response, request_id, client_request_id, deployment_line)
    put(out, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 43)
    return close_writer(out)


# --- Dates and ids ---------------------------------------------------------------------------------------------------

cdef tuple DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
cdef tuple MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
cdef bytes _date_text = b""
cdef time_t _date_second = -1


cdef bytes _date():
    global _date_text, _date_second
    cdef time_t now = time(NULL)
    if now != _date_second:
        then = gmtime(now)  # not strftime: its names follow the locale
        day, month = DAYS[then.tm_wday], MONTHS[then.tm_mon - 1]
        clock = f"{then.tm_hour:02d}:{then.tm_min:02d}:{then.tm_sec:02d}"
        _date_text = f"{day}, {then.tm_mday:02d} {month} {then.tm_year} {clock} GMT".encode("ascii")
        _date_second = now
    return _date_text


def http_date() -> bytes:
    """The present second as a Date field has it."""
    return _date()


cdef bytes _random = b""
cdef Py_ssize_t _random_used = 0


def _forget_random() -> None:
    """After a fork: both processes would hand out the same ids."""
    global _random, _random_used
    _random = b""
    _random_used = 0


os.register_at_fork(after_in_child=_forget_random)


cdef bytes new_request_id():
    global _random, _random_used
    cdef const uint8_t* source
    cdef char out[ID_LENGTH]
    cdef int i, at = 0
    cdef uint8_t octet
    if _random_used + 16 > len(_random):
        _random = os.urandom(4096)
        _random_used = 0
    source = <const uint8_t*>PyBytes_AS_STRING(_random) + _random_used
    _random_used += 16
    for i in range(16):
        octet = source[i]
        if i == 6:
            octet = 0x40 | (octet & 0x0F)  # version 4 of RFC 9562
        elif i == 8:
            octet = 0x80 | (octet & 0x3F)
        if i == 4 or i == 6 or i == 8 or i == 10:
            out[at] = c'-'
            at += 1
        out[at] = b"0123456789abcdef"[octet >> 4]
        out[at + 1] = b"0123456789abcdef"[octet & 15]
        at += 2
    return PyBytes_FromStringAndSize(out, ID_LENGTH)


def request_id() -> bytes:
    """`new_request_id` for callers in Python."""
    return new_request_id()


# --- For tests and tools ---------------------------------------------------------------------------------------------


def upstream_head(RequestHead head, Peer peer, bytes request_id, int64_t body=-1, *, bint strip_authorization=False,
                  bint websocket=False, bytes tail=b"") -> bytes:
    """`build_upstream_head`."""
    cdef int flags = (STRIP_AUTHORIZATION if strip_authorization else 0) | (SEND_UPGRADE if websocket else 0)
    return build_upstream_head(head, peer, request_id, body, flags, tail, len(tail))


def downstream_head(ResponseHead response, RequestHead request, bytes request_id, bytes deployment_line=b"", *,
                    bint close=False, bytes tail=b"", bint last=False) -> bytes:
    """`build_downstream_head`."""
    return build_downstream_head(response, request, request_id, deployment_line, close, tail, len(tail), last)


def interim_head(ResponseHead response) -> bytes:
    """`build_interim_head`."""
    return build_interim_head(response)


def switch_head(ResponseHead response, bytes request_id, bytes client_request_id=None,
                bytes deployment_line=b"") -> bytes:
    """`build_switch_head`."""
    return build_switch_head(response, request_id, client_request_id, deployment_line)
