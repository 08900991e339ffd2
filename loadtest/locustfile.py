"""What locust is given: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --endpoint NAME`.

Owns: how the scenarios become locust's options, shape, users, exit code and final report. Never: processes; the runner
(`__main__.py`) starts locust with this file. Run it in the project's folder. Several processes (--processes) work: all
that is counted is in locust's own statistics.
"""

from __future__ import annotations

import sys
from typing import Any

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.load import OptionError, add_options, build_load
from loadtest.report import split_lines, verdict
from loadtest.users import LoadUser, ScoreUser, StreamUser

DEFAULT_SECONDS = 60.0
SPAWN_RATE = 100.0  # users a second; locust warns above it

__all__ = ["ScenarioShape", "ScoreUser", "StreamUser"]


class ScenarioShape(LoadTestShape):
    """Asked by locust once a second how many users there should be."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        load = LoadUser.load
        second = self.get_run_time()
        if second >= load.seconds:
            return None
        return load.scenario.users_at(second, load.seconds, load.users), SPAWN_RATE


@events.init_command_line_parser.add_listener
def _on_parser(parser: Any) -> None:
    add_options(parser, variables=True)


@events.init.add_listener
def _on_init(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    try:
        load = build_load(options, options.num_users, float(options.run_time or DEFAULT_SECONDS))
    except OptionError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        sys.exit(2)
    LoadUser.load = load
    scores = [ScoreUser] if load.scenario.scores and load.endpoints else []
    streams = [StreamUser] if load.scenario.streams and load.streams else []
    environment.user_classes = [*scores, *streams]


@events.quitting.add_listener
def _on_quitting(environment: Environment, **_: Any) -> None:
    """Before locust prints its tables: the exit code. One of several processes knows only its own part."""
    if isinstance(environment.runner, WorkerRunner):
        return
    problems = verdict(environment.stats, LoadUser.load)
    environment.process_exit_code = 1 if problems else 0

    @environment.events.quit.add_listener
    def _on_quit(**_: Any) -> None:
        """Behind them: what they do not say."""
        for line in split_lines(environment.stats, LoadUser.load):
            print(f"loadtest: {line}")
        for problem in problems:
            print(f"loadtest: failed: {problem}")
