"""The checks in order, and their run: what each needs, how long it may take, with which code its failure ends.

Owns: CHECKS, and that a run ends in time whatever hangs. A check whose need has failed is skipped, and says so. Never:
a check's own work, output. A new check is a line in CHECKS.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from fe.checks import cluster, front_ends, local, models, replicas, rights
from fe.checks.context import Context
from fe.checks.result import Result, fail
from fe.config import schema
from fe.control.kubernetes.client import ApiError, UnreachableError
from fe.errors import EXIT_CONFIG, EXIT_INTERNAL, EXIT_RESOURCE
from fe.log import logger

log = logger("checks")

GRACE: Final = 0.5  # seconds beyond the deadline, for a check that keeps to it by itself to say how far it came
CLOSE_WITHIN: Final = 2.0


class Check(NamedTuple):
    """`code`: the exit code if it is the first to fail; `applies`: whether the configuration asks for it."""

    name: str
    run: Callable[[Context], Awaitable[list[Result]]]
    code: int
    needs: tuple[str, ...] = ()
    applies: Callable[[Context], bool] = lambda _: True


def _in_cluster(context: Context) -> bool:
    return context.in_cluster


CONFIG: Final = ("configuration",)
API: Final = ("api",)
CHECKS: Final = (
    Check("configuration", local.check_configuration, EXIT_CONFIG),
    Check("sources", local.check_sources, EXIT_RESOURCE, CONFIG),
    Check("listen", local.check_listen, EXIT_RESOURCE, CONFIG),
    Check("commands", local.check_commands, EXIT_RESOURCE, CONFIG, lambda context: context.has(schema.ProcessReplicas)),
    Check(
        "replicas", replicas.check_replicas, EXIT_RESOURCE, CONFIG, lambda context: context.has(schema.StaticReplicas)
    ),
    Check("credentials", cluster.check_credentials, EXIT_RESOURCE, CONFIG, _in_cluster),
    Check("dns", cluster.check_name, EXIT_RESOURCE, ("credentials",), _in_cluster),
    Check("port", cluster.check_port, EXIT_RESOURCE, ("dns",), _in_cluster),
    Check("api", cluster.check_api, EXIT_RESOURCE, ("port",), _in_cluster),
    Check("kinds", cluster.check_kinds, EXIT_INTERNAL, API, _in_cluster),
    Check("permissions", rights.check_permissions, EXIT_INTERNAL, ("kinds",), _in_cluster),
    Check("election", front_ends.check_election, EXIT_INTERNAL, API, _in_cluster),
    Check("siblings", front_ends.check_siblings, EXIT_INTERNAL, API, _in_cluster),
    Check("models", models.check_models, EXIT_INTERNAL, API, _in_cluster),
    Check("pods", replicas.check_pods, EXIT_RESOURCE, API, _in_cluster),
)


async def run(path: str, limit: float, tell: Callable[[Result], None]) -> None:
    """Runs them within `limit` seconds; `tell` gets each result as it comes."""
    context = Context(path, asyncio.get_running_loop().time() + limit)
    bad: dict[str, str] = {}  # what has failed or was skipped, and why whoever needs it is skipped
    try:
        for check in CHECKS:
            if not check.applies(context):
                continue
            why = next((bad[need] for need in check.needs if need in bad), "")
            results = [Result("skipped", f"because {why} failed")] if why else await _results(check, context, limit)
            if any(one.status in ("fail", "skipped") for one in results):
                bad[check.name] = why or check.name
            for one in results:
                tell(one._replace(name=check.name, code=check.code))
    finally:
        if context.cluster is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN):
                    await context.cluster.close()


async def _results(check: Check, context: Context, limit: float) -> list[Result]:
    try:
        if asyncio.get_running_loop().time() >= context.deadline:
            raise TimeoutError
        async with asyncio.timeout_at(context.deadline + GRACE):
            return await check.run(context)
    except TimeoutError:
        return [
            fail(
                f"it was not done when the {limit:g} s for all checks were over",
                "give more time: --timeout; or "
                "something hangs that others see to: a name server, a mount, the API server",
            )
        ]
    except (ApiError, UnreachableError) as error:
        return [fail(str(error), "see what the API server logs, and run this again")]
    except Exception as error:  # the other checks have something to say all the same
        log.exception("a check failed", check=check.name)
        return [
            fail(
                f"a fault of fe itself, or an answer of a kind that it does not know: {type(error).__name__}",
                "see the lines on stderr",
            )
        ]
