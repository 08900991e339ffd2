# The credential of endpoints with auth_mode key.

from fe.proxy._head cimport RequestHead


# Whether `Authorization: Bearer <key>` has one of these SHA-256 digests. The time taken does not depend on which, or
# on how much of one is right.
cdef bint key_matches(RequestHead head, tuple digests) except -1
