"""Runs a command as in a container: as user 10001, who has no name and no rights, with every file system read-only.

    unshare --user --mount --map-user=10001 --map-group=10001 --keep-caps python read_only.py COMMAND...

Owns: what a container engine does between its namespaces and the program. Never: fe. Refuses to go on when
something could be written all the same.
"""

import ctypes
import errno
import os
import sys

SYS_MOUNT_SETATTR = 442  # on every architecture; Linux 5.12
AT_FDCWD, AT_RECURSIVE, READ_ONLY = -100, 0x8000, 1
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4

libc = ctypes.CDLL(None, use_errno=True)


def must(result: int, what: str) -> None:
    if result:
        raise SystemExit(f"{what}: {os.strerror(ctypes.get_errno())}")


attributes = (ctypes.c_uint64 * 4)(READ_ONLY, 0, 0, 0)
must(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, ctypes.sizeof(attributes)), "read-only")
must(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "capabilities")
must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "privileges")
for folder in ("/", "/dev/shm", os.path.dirname(sys.argv[1])):  # noqa: S108 - nothing is to be written there
    try:
        os.mkdir(os.path.join(folder, "written"))
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    else:
        raise SystemExit(f"{folder} could be written to")
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - that is the point
