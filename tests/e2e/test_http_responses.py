"""Responses, case by case: what the client sees of an answer does not depend on how it arrived, and never on luck.

Owns: the runs over the response corpus. The cases are in corpus_answers.py, the judgement in answer_runner.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import answer_runner
from tests.e2e.answer_runner import Runner
from tests.e2e.corpus_answers import ANSWERS
from tests.support.backends import Backend
from tests.support.fe_process import FeProcess

BATCHES = 125

pytestmark = pytest.mark.timeout(600)  # twelve thousand answers, on a busy machine


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    with FeProcess({"endpoints": answer_runner.endpoints(backend, BATCHES)}) as one:
        yield one


@pytest.fixture(scope="module")
def runner(fe: FeProcess, backend: Backend) -> Runner:
    return Runner(fe, backend, BATCHES)


def test_whole(fe: FeProcess, runner: Runner) -> None:
    assert runner.run(answer_runner.whole(ANSWERS)) == len(ANSWERS)
    fe.wait_idle()


def test_cut_at_every_byte(fe: FeProcess, runner: Runner) -> None:
    assert runner.run(answer_runner.split(ANSWERS)) > 40 * len(ANSWERS)
    fe.wait_idle()


def test_byte_by_byte(fe: FeProcess, runner: Runner) -> None:
    assert runner.run(answer_runner.bytewise(ANSWERS)) == len(ANSWERS)
    fe.wait_idle()
