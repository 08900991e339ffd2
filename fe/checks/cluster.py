"""Checks of the way to the API server: credentials, name, port, TLS and an answer, the clocks, the kinds it knows.

Owns: these steps, each of which says what the next one needs. Never: what fe may do there (`fe.checks.rights`). A URL
is shown without what may stand before its host: a password can.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from fe.checks.context import Context
from fe.checks.reach import SILENT, connect, resolve
from fe.checks.result import Result, fail, listed, ok, warn
from fe.control.addresses import display
from fe.control.kubernetes.access import UnreachableError, UntrustedError
from fe.control.kubernetes.client import EMPTY, AccessError, ApiError, Cluster
from fe.control.kubernetes.exchange import Request, exchange, read_answer
from fe.control.kubernetes.objects import GROUP, VERSION
from fe.control.kubernetes.permissions import HPA, KEDA

CALL_WITHIN: Final = 5.0  # seconds
SKEW_MOST: Final = 10.0
KINDS: Final = {"onlineendpoints", "onlinedeployments"}
ACCOUNT: Final = (
    "in a pod: mend serviceAccountName and automountServiceAccountToken of fe's Deployment; elsewhere: name a "
    "kubeconfig that this user may read in kubernetes.kubeconfig, and a context of it in kubernetes.context"
)
OPEN_TO_ALL: Final = (
    "whoever is in between can read the token: take insecure-skip-tls-verify out of the kubeconfig, and name "
    "certificate-authority there"
)
NO_NAME: Final = (
    "mend this machine's name servers (/etc/resolv.conf; in a cluster: is its DNS running?), or the name in the "
    "kubeconfig"
)
SILENCE: Final = "a firewall, or a NetworkPolicy for egress, keeps fe out; or mend `server` of the kubeconfig"
CLOSED: Final = "the server is down, or listens elsewhere: mend `server` of the kubeconfig"
UNTRUSTED: Final = (
    "the authority that fe has is not that of this server, or the server goes by another name: mend "
    "certificate-authority and server of the kubeconfig, or restart the pod for a new ca.crt"
)
REFUSED: Final = (
    "the token or certificate is not, or no longer, known there: log in again, or replace it; in a pod: "
    "kubectl -n NAMESPACE rollout restart deployment/fe"
)
CLOCK: Final = "set the clock (timedatectl, chronyc): certificates and tokens are held against it"


async def check_credentials(context: Context) -> list[Result]:
    """The configuration of the cluster can be loaded."""
    context.cluster = Cluster(context.kubernetes.kubeconfig, context.kubernetes.context)
    try:
        context.opened = await context.client.open()
    except AccessError as error:
        return [fail(str(error), ACCOUNT)]
    where = f"{context.access.source}; fe's namespace is {context.namespace}"
    if not _settings(context).verify_ssl and urlsplit(context.access.server).scheme == "https":
        return [warn(f"{where}; the server's certificate is not verified", OPEN_TO_ALL)]
    return [ok(where)]


async def check_name(context: Context) -> list[Result]:
    """The API server's name is known."""
    try:
        host, port, what = _way(context)
        found = await resolve(host, port)
    except ValueError:
        return [fail("the API server's URL has no host, or no port that is one", "mend `server` of the kubeconfig")]
    except OSError as error:
        return [fail(f"{what} {host}: {error}", NO_NAME)]
    return [ok(f"{what} {host}: {listed([display(one) for one in found])}")]


async def check_port(context: Context) -> list[Result]:
    """One of its addresses accepts a connection."""
    host, port, what = _way(context)
    outcomes = {}
    for sockaddr in await resolve(host, port):
        began = time.monotonic()
        outcomes[display(sockaddr)] = why = await connect(sockaddr)
        if not why:
            return [ok(f"{display(sockaddr)} accepts connections, after {1000 * (time.monotonic() - began):.0f} ms")]
    tried = ", ".join(f"{one}: {why}" for one, why in outcomes.items())
    return [fail(f"{what} at {tried}", SILENCE if SILENT in outcomes.values() else CLOSED)]


async def check_api(context: Context) -> list[Result]:
    """TLS is agreed on, and the server answers; then how its clock differs from this one."""
    try:
        async with exchange(context.access, Request("GET", "/version", EMPTY, silence=CALL_WITHIN)) as response:
            body = (await read_answer(response)).body
            date = response.headers.get("Date", "")
    except UntrustedError as error:
        return [fail(str(error), UNTRUSTED)]
    except ApiError as error:
        return [fail(str(error), REFUSED if error.status == 401 else "see what the API server logs")]
    except UnreachableError as error:
        return [fail(str(error), "what accepts connections there gives no answer: is it an API server, and well?")]
    tls = "TLS, its certificate is trusted" if _scheme(context) == "https" else "without TLS"
    answer = ok(f"Kubernetes {body.get('gitVersion') or 'of an unknown version'}, {tls}")
    skew = _skew(date)
    if abs(skew) <= SKEW_MOST:
        return [answer]
    ahead = "behind" if skew > 0 else "ahead of"
    return [warn(f"{answer.detail}; this machine's clock is {abs(skew):.0f} s {ahead} the server's", CLOCK)]


async def check_kinds(context: Context) -> list[Result]:
    """fe's own kinds are defined; whether there are autoscalers that fe has to stand back for."""
    missing = sorted(KINDS - await _plurals(context, GROUP, VERSION))
    for group, version in ((HPA, "v2"), (KEDA, "v1alpha1")):
        await _plurals(context, group, version)
    others = " and ".join(
        name for name, group in (("HorizontalPodAutoscaler", HPA), ("KEDA", KEDA)) if group not in context.absent
    )
    beside = f"; {others or 'no autoscaler'} beside fe is known"
    if missing:
        return [
            warn(
                f"not defined: {', '.join(missing)} ({GROUP}/{VERSION}); only labelled Deployments are served{beside}",
                "kubectl apply -f deploy/kubernetes/base/crds",
            )
        ]
    return [ok(f"{', '.join(sorted(KINDS))} ({GROUP}/{VERSION}) are defined{beside}")]


async def _plurals(context: Context, group: str, version: str) -> set[str]:
    """The kinds of a group, as they stand in paths. A group that is not there is noted."""
    try:
        answer = await context.client.call("GET", f"/apis/{group}/{version}", timeout=CALL_WITHIN)
    except ApiError as error:
        if error.status == 404:
            context.absent.add(group)
            return set()
        if error.status == 403:  # fe itself does not ask this
            return KINDS
        raise
    return {str(one.get("name", "")) for one in answer.body.get("resources") or () if isinstance(one, dict)}


def _settings(context: Context) -> Any:
    """The package's, by which requests are made."""
    return context.access.api.configuration


def _scheme(context: Context) -> str:
    return urlsplit(context.access.server).scheme


def _way(context: Context) -> tuple[str, int, str]:
    """Host and port that requests go to first, and what that is. Raises ValueError: the URL has none."""
    url, what = urlsplit(_settings(context).proxy or context.access.server), "the API server"
    if _settings(context).proxy:
        what = "the proxy before the API server"
    if not url.hostname:
        raise ValueError("no host")
    return url.hostname, url.port or (80 if url.scheme == "http" else 443), what


def _skew(date: str) -> float:
    """Seconds that the server's clock is ahead of this one; 0 where it does not say."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return 0.0
