# Bytes written one after the other into memory that is kept: what heads and access lines are built with.
#
# `open_writer` makes room for everything that is to come, nothing after it checks again; `close_writer` raises if the
# bound was wrong. One Scratch per module: one thread, one text at a time.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from fe.proxy._head cimport Span


cdef struct Scratch:
    char* memory
    Py_ssize_t room

cdef struct Writer:
    char* start
    char* at
    char* end


cdef inline int open_writer(Writer* out, Scratch* scratch, Py_ssize_t room) except -1:
    cdef char* grown
    if room > scratch.room:
        grown = <char*>realloc(scratch.memory, room)
        if grown is NULL:
            raise MemoryError
        scratch.memory = grown
        scratch.room = room
    out.start = out.at = scratch.memory
    out.end = scratch.memory + room
    return 0


cdef inline bytes close_writer(Writer* out):
    if out.at > out.end:
        raise SystemError("a text was longer than its bound")
    return PyBytes_FromStringAndSize(out.start, out.at - out.start)


cdef inline void put(Writer* out, const char* data, Py_ssize_t n) noexcept nogil:
    memcpy(out.at, data, n)
    out.at += n


cdef inline void put_bytes(Writer* out, bytes data) noexcept:
    put(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline void put_span(Writer* out, bytes raw, Span span) noexcept:
    put(out, PyBytes_AS_STRING(raw) + span.at, span.length)


cdef inline void put_number(Writer* out, int64_t number) noexcept nogil:
    """A number that is not negative."""
    cdef char digits[20]
    cdef int n = 20
    while True:
        n -= 1
        digits[n] = c'0' + number % 10
        number //= 10
        if number == 0:
            break
    put(out, &digits[n], 20 - n)
