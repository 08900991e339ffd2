"""What a run is asked to do: its options, for locust and for the runner alike, and the `Load` they become.

Owns: the options' names and texts, the variables of the environment that set them for locust, their checks; how a key
is found, which is shown nowhere. Never: traffic (`users.py`), processes (`installation.py`). Does not import
locust: the runner checks everything before it starts anything.
"""

from __future__ import annotations

import argparse
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loadtest.scenarios import SCENARIOS, Scenario

MOST_BYTES: Final = 1 << 30
VARIABLE: Final = "FE_LOADTEST_"  # and the option's name in capitals
DEFAULT_SCENARIO: Final = "mixed"


class OptionError(ValueError):
    """An option that cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of both commands. `repeated`: may be given several times."""

    name: str
    metavar: str
    help: str
    default: str | None = None
    repeated: bool = False

    @property
    def dest(self) -> str:
        return self.name.replace("-", "_")

    def given(self, options: argparse.Namespace) -> list[str]:
        """Its arguments as another command line would have them."""
        value = getattr(options, self.dest)
        values = value if self.repeated else [value]
        return [word for one in values or [] if one is not None for word in (f"--{self.name}", str(one))]


OPTIONS: Final = (
    Option("scenario", "NAME", f"one of {', '.join(SCENARIOS)}", DEFAULT_SCENARIO),
    Option("rate", "N", "requests a second at the peak, all users together (default: the scenario's)"),
    Option("endpoint", "NAME", "endpoint that is asked for scores; several share the requests", repeated=True),
    Option("stream-endpoint", "NAME", "endpoint that answers with server-sent events; likewise", repeated=True),
    Option("path", "PATH", "path in place of /api/v1/endpoint/NAME/score, for a route of yours"),
    Option("deployment", "NAME", "sent as azureml-model-deployment: past the traffic split, to this one"),
    Option("key", "SOURCE", "file:PATH or env:NAME of the endpoints' key, sent as Authorization: Bearer"),
    Option("body", "FILE", "a file with the request's body (default: JSON of --request-bytes)"),
    Option("request-bytes", "N", "size of the request's body without --body", "256"),
    Option("arrivals", "KIND", "even: each user at a fixed pace; poisson: at random, as independent clients", "even"),
    Option("max-failures", "PERCENT", "failed requests up to which the run counts as good", "0"),
    Option("expect-split", "SPLIT", "NAME=DEPLOYMENT:PERCENT,...: what the answers' deployments are compared with",
           repeated=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """A checked run. `rate` is requests a second at `users` users; `seconds` how long it takes."""

    scenario: Scenario
    users: int
    rate: float
    seconds: float
    endpoints: tuple[str, ...]
    streams: tuple[str, ...]
    path: str | None
    body: bytes
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    poisson: bool
    max_failures: float
    splits: Mapping[str, Mapping[str, float]]

    @property
    def each(self) -> float:
        """Requests a second of one user."""
        return self.rate / self.users

    def target(self, endpoint: str) -> str:
        """The path of an endpoint's scoring URI."""
        return self.path or f"/api/v1/endpoint/{endpoint}/score"

    @staticmethod
    def pick(endpoints: Sequence[str]) -> str:
        """The endpoint of the next request."""
        return endpoints[0] if len(endpoints) == 1 else random.choice(endpoints)  # noqa: S311


def add_options(parser: Any, *, variables: bool) -> None:
    """Adds OPTIONS to an ArgumentParser; with `variables` to locust's, which can take them from the environment too."""
    for option in OPTIONS:
        extra: dict[str, Any] = {"env_var": VARIABLE + option.dest.upper()} if variables else {}
        if option.repeated:
            extra["action"] = "append"
        default = f" (default {option.default})" if option.default else ""
        parser.add_argument(
            f"--{option.name}", metavar=option.metavar, default=option.default, help=option.help + default, **extra
        )


def build_load(options: argparse.Namespace, users: int | None, seconds: float) -> Load:
    """The run that these options describe. OptionError says what is wrong with them."""
    scenario = SCENARIOS.get(options.scenario)
    if scenario is None:
        raise OptionError(f"--scenario {options.scenario!r}: there are {', '.join(SCENARIOS)}")
    endpoints, streams = tuple(options.endpoint or ()), tuple(options.stream_endpoint or ())
    if scenario.scores and not endpoints and not (scenario.streams and streams):
        raise OptionError(f"--endpoint: {scenario.name} needs one to ask for scores")
    if scenario.streams and not streams and not (scenario.scores and endpoints):
        raise OptionError(f"--stream-endpoint: {scenario.name} needs one that answers with events")
    if options.path is not None and not options.path.startswith("/"):
        raise OptionError(f"--path {options.path!r} does not begin with /")
    if options.arrivals not in ("even", "poisson"):
        raise OptionError(f"--arrivals {options.arrivals!r}: there are even, poisson")
    return Load(
        scenario=scenario,
        users=scenario.users if users is None else users,
        rate=scenario.rate if options.rate is None else _number("rate", options.rate, 0.001, 1e6),
        seconds=seconds,
        endpoints=endpoints,
        streams=streams,
        path=options.path,
        body=_body(options),
        headers=_headers(options, scenario),
        poisson=options.arrivals == "poisson",
        max_failures=_number("max-failures", options.max_failures, 0, 100),
        splits=dict(_split(text) for text in options.expect_split or ()),
    )


def _number(name: str, text: str, least: float, most: float) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]+)?", text) or not least <= float(text) <= most:
        raise OptionError(f"--{name} {text!r} is no number from {least:g} to {most:g}")
    return float(text)


def _body(options: argparse.Namespace) -> bytes:
    if options.body is not None:
        try:
            return Path(options.body).read_bytes()
        except OSError as error:
            raise OptionError(f"--body {options.body}: {error.strerror}") from None
    size = int(_number("request-bytes", options.request_bytes, 12, MOST_BYTES))
    return b'{"data":"' + b"x" * (size - 11) + b'"}'


def _headers(options: argparse.Namespace, scenario: Scenario) -> dict[str, str]:
    headers = {"Content-Type": "application/json", **scenario.headers}
    if options.deployment is not None:
        headers["azureml-model-deployment"] = options.deployment
    if options.key is not None:
        headers["Authorization"] = f"Bearer {_read_key(options.key)}"
    return headers


def _read_key(source: str) -> str:
    """What a source names. A key itself is refused, and not repeated: a command line can be read by everybody."""
    kind, _, name = source.partition(":")
    if kind == "env" and name:
        key = os.environ.get(name)
        if not key:
            raise OptionError(f"--key: the variable {name} is not set")
    elif kind == "file" and name:
        try:
            key = Path(name).read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError):
            raise OptionError(f"--key: the file {name} cannot be read") from None
    else:
        raise OptionError("--key is file:PATH or env:NAME; a key itself would be seen in the list of processes")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise OptionError("--key: what it names is no key: one line of printable ASCII without blanks is")
    return key


def _split(text: str) -> tuple[str, dict[str, float]]:
    endpoint, _, rest = text.partition("=")
    parts = [re.fullmatch(r"([A-Za-z0-9-]+):([0-9]+(?:\.[0-9]+)?)", part) for part in rest.split(",")]
    if not endpoint or not all(parts):
        raise OptionError(f"--expect-split {text!r}: write it as scores=blue:90,green:10")
    return endpoint, {part[1]: float(part[2]) for part in parts if part}
