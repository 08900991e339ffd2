# Heads that are sent on: to a replica, to the client. One canonical form each, serialised from a parsed head.
#
# The tails are body bytes that go out in the same write; the result is one bytes object, ready for send.

from libc.stdint cimport int64_t

from fe.proxy._head cimport RequestHead, ResponseHead

cdef enum UpstreamBody:
    UPSTREAM_NO_BODY = -1   # the request came without one
    UPSTREAM_CHUNKED = -2   # a length is not known: the caller writes chunks after the head

cdef enum UpstreamFlags:
    STRIP_AUTHORIZATION = 1  # fe itself consumed the credential
    SEND_UPGRADE = 2         # ask the replica for a WebSocket


cdef class Peer:
    # who is at the other end of a client connection: computed once per connection
    cdef readonly bytes address    # b"127.0.0.1", b"2001:db8::1"; b"unknown" on a unix socket
    cdef readonly bint trusted
    cdef readonly bytes scheme     # b"http" or b"https"
    cdef bytes forwarded_block     # X-Forwarded-For, -Proto, X-Real-IP as whole lines
    cdef bytes forwarded_for       # b"for=...;proto=...;host="


# `body` is the number of body bytes that will follow (tail included), or an UpstreamBody.
cdef bytes build_upstream_head(RequestHead head, Peer peer, bytes request_id, int64_t body, int flags,
                               const char* tail, Py_ssize_t tail_length)

# Decides response.send_chunked and response.send_close. `close`: the caller closes after this answer anyway.
# `deployment_line` is Deployment.header_line. The tail is body as the replica meant it (not chunked); it is framed
# here, and with `last` the end of a chunked body follows it.
cdef bytes build_downstream_head(ResponseHead response, RequestHead request, bytes request_id, bytes deployment_line,
                                 bint close, const char* tail, Py_ssize_t tail_length, bint last)
cdef bytes build_interim_head(ResponseHead response)   # 103 passed on
cdef bytes build_switch_head(ResponseHead response, bytes request_id, bytes client_request_id,
                             bytes deployment_line)    # 101 passed on

cdef bytes new_request_id()   # a fresh random GUID, 36 characters
