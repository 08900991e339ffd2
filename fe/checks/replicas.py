"""Checks of replicas: the ports of fixed addresses, and those of pods that are ready.

Owns: what is said about ports that accept no connection. Never: a request; whether a model answers is what probes are
for. How ports are tried: `fe.checks.reach`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from fe.checks.context import Context
from fe.checks.reach import AT_ONCE, NO_TIME, SILENT, connect_all, resolve
from fe.checks.result import Result, count, fail, ok
from fe.config import schema
from fe.config.addresses import parse_address
from fe.control.addresses import display, literal, pack_inet

OTHER_PORT: Final = (
    "the port that fe takes (target.port, or the annotation; 5001 where none is stated) and the one that the container "
    "listens on differ, or it listens on 127.0.0.1 only, or a NetworkPolicy keeps fe out"
)
KEPT_OUT: Final = (
    "a NetworkPolicy in the pods' namespace keeps fe out, or the pods' network cannot be reached from here"
)
START: Final = "start the model server there, or mend replicas.static; where a firewall is in between, nothing answers"
NAMES: Final = "mend the name in replicas.static, or this machine's name servers (/etc/resolv.conf)"

Places: TypeAlias = Mapping[str, Iterable[bytes]]  # by "endpoint/deployment"


async def check_replicas(context: Context) -> list[Result]:
    """Names of fixed addresses are known, and each port accepts a connection."""
    static = {
        name: one.replicas.addresses
        for name, one in context.deployments()
        if isinstance(one.replicas, schema.StaticReplicas)
    }
    known, unknown = await _resolved({text for texts in static.values() for text in texts})
    bad = [f"{name} {text}: {unknown[text]}" for name, texts in static.items() for text in texts if text in unknown]
    results = []
    if bad:
        results = [fail(f"{count(len(bad), 'host name')} cannot be resolved", NAMES, bad)]
    places = {name: [one for text in texts for one in known.get(text, ())] for name, texts in static.items()}
    return results + await _knock(context, places, "replica", START, START)


async def _resolved(texts: Iterable[str]) -> tuple[dict[str, list[bytes]], dict[str, str]]:
    """The addresses behind each text, and why there are none."""
    known: dict[str, list[bytes]] = {}
    unknown: dict[str, str] = {}
    together = asyncio.Semaphore(AT_ONCE)

    async def look_up(text: str) -> None:
        packed = literal(text)
        if packed is not None:
            known[text] = [packed]
            return
        address = parse_address(text)
        try:
            async with together:
                known[text] = await resolve(address.host, address.port)
        except OSError as error:
            unknown[text] = str(error)

    await asyncio.gather(*map(look_up, texts))
    return known, unknown


async def check_pods(context: Context) -> list[Result]:
    """The port of each ready pod accepts a connection."""
    if context.ports is None:
        return [Result("skipped", "because the pods are not seen")]
    places = {name: [pack_inet(*one) for one in ports] for name, ports in context.ports.items()}
    if not any(places.values()):
        return [ok("there is no ready pod to connect to")]
    return await _knock(context, places, "ready pod", OTHER_PORT, KEPT_OUT)


async def _knock(context: Context, places: Places, what: str, refused: str, silent: str) -> list[Result]:
    """Connects to all of them. `refused`, `silent`: the mend where a port is refused, and where nothing answers."""
    outcomes = await connect_all({one for packed in places.values() for one in packed}, context.deadline)
    reasons = sorted(set(outcomes.values()) - {""})
    results = []
    for reason in reasons:
        bad = [f"{name} {display(one)}" for name, packed in places.items() for one in packed if outcomes[one] == reason]
        detail = f"{len(bad):,} of {count(len(outcomes), what)}: {reason}"
        mend = {NO_TIME: "give more time: --timeout", SILENT: silent}.get(reason, refused)
        results.append(fail(detail, mend, bad))
    if results or not outcomes:
        return results
    return [ok(f"{count(len(outcomes), what)} of {count(len(places), 'deployment')}: connections are accepted")]
