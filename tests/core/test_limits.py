"""Size, limits and memory of a table; what `attach` refuses."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from fe import _core, _memory
from fe._core import Limits, Table
from tests.core.tables import FAR, SMALL, bench

DEFAULT_MB = 26


def test_the_default_table_is_small():
    assert DEFAULT_MB - 1 < Table.size_of(Limits()) / _memory.MB < DEFAULT_MB


def test_size_follows_the_limits():
    size = Table.size_of(Limits())
    assert Table.size_of(Limits(workers=3)) > size + 2 * 1024 * (128 + 3 * 96) * 8
    assert Table.size_of(Limits(slots=8192 * 2)) > size + 64 * 8192 * 32
    with bench() as made:
        assert made.table.size == Table.size_of(SMALL) == os.fstat(made.table.fd).st_size
        assert made.table.limits == SMALL
        assert made.table.unrouted == SMALL.deployments


@pytest.mark.parametrize("name", Limits._fields)
@pytest.mark.parametrize("past", [False, True])
def test_a_limit_out_of_range_is_named(name, past):
    most = getattr(_core.MOST, name)
    with pytest.raises(ValueError, match=rf"limits\.{name} .* from 1 to {most}"):
        Table.create(SMALL._replace(**{name: most + 1 if past else 0}))


def test_every_slot_of_the_largest_table_has_a_number():
    assert _core.MOST.holders * _core.MOST.slots < 2**32 - 1
    assert Table.size_of(_core.MOST._replace(config_bytes=1)) > 2**33


def test_the_smallest_table_works():
    with bench(Limits(1, 1, 1, 1, 1, 1)) as made:
        deployment, generation, [member] = made.deployment()
        holder = made.table.holder(0)
        assert holder.acquire(deployment, generation, FAR) == (_core.HELD, 0, member)
        assert holder.acquire(deployment, generation, FAR)[0] == _core.NO_SLOT
        holder.release(0)
        assert made.table.publish(b"x") == 1


def test_many_slots_share_a_bit_of_the_summary():
    """With more than 4,096 slots one bit of the summary stands for several words of the mailbox."""
    limits = Limits(deployments=1, replicas=1, holders=2, slots=4096 * 3 + 1, workers=1, config_bytes=1)
    with bench(limits) as made:
        deployment, generation, [member] = made.deployment(capacity=0, replicas=1)
        first, second = made.holders(2)
        held = [first.acquire(deployment, generation, FAR)[1] for _ in range(limits.slots)]
        made.table.configure_deployment(deployment, 1, limits.slots)
        waiting = [second.acquire(deployment, generation, FAR)[1] for _ in range(limits.slots)]
        made.table.configure_deployment(deployment, 0, limits.slots)
        outcomes = []
        while part := second.collect():
            outcomes += part
        assert outcomes == [(slot, member, _core.HELD) for slot in sorted(waiting)]
        for slot in held:
            first.release(slot)


def test_every_page_is_there_from_the_start():
    with bench() as made:
        assert os.fstat(made.table.fd).st_blocks * 512 >= made.table.size


def test_attach_sees_the_same_table():
    with bench() as made:
        deployment, generation, [member] = made.deployment()
        other = Table.attach(made.table.fd)
        assert (other.limits, other.size, other.unrouted) == (SMALL, made.table.size, SMALL.deployments)
        assert other.holder(0).acquire(deployment, generation, FAR) == (_core.HELD, 0, member)
        assert made.table.deployment(deployment).in_flight == 1
        del other
        os.fstat(made.table.fd)  # the descriptor is still its creator's


@pytest.mark.parametrize(
    ("offset", "reason"), [(0, "magic"), (8, "another build"), (16, "cut short")], ids=["magic", "signature", "size"]
)
def test_attach_refuses_what_it_does_not_know(offset, reason):
    with bench() as made:
        copy = os.memfd_create("copy")
        content = bytearray(os.pread(made.table.fd, made.table.size, 0))
        content[offset] ^= 1
        os.write(copy, content)
        with pytest.raises(ValueError, match=reason):
            Table.attach(copy)
        os.truncate(copy, 100)
        with pytest.raises(ValueError, match="100 bytes"):
            Table.attach(copy)
        os.close(copy)


def test_nobody_makes_a_table_or_holder_by_hand():
    with pytest.raises(TypeError, match=r"Table\.create"):
        Table()
    with pytest.raises(TypeError, match=r"Table\.holder"):
        _core.Holder()


def test_no_room_in_the_address_space():
    """A real limit, in a process of its own: the table says so, leaves no descriptor and the process goes on."""
    code = (
        "import os, resource\n"
        "from fe._core import Limits, Table\n"
        "before = os.listdir('/proc/self/fd')\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "most = pages * resource.getpagesize() + (8 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "try:\n"
        "    Table.create(Limits())\n"
        "except MemoryError as error:\n"
        "    print(error, os.listdir('/proc/self/fd') == before)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "no room in the address space" in result.stdout
    assert result.stdout.rstrip().endswith("True"), result.stdout + result.stderr


def test_a_file_size_limit_is_an_error_too():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(MemoryError, match="cannot allocate a lease table of"):
            Table.create(SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
