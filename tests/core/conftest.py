"""One small table for each test, healthy at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core import tables


@pytest.fixture
def bench() -> Iterator[tables.Bench]:
    with tables.bench() as made:
        yield made
