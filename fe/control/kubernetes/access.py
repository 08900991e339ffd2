"""How fe reaches an API server and proves who it is: the official package's configuration, loaded and held.

Owns: the choice between the pod's service account and a kubeconfig, and what loading one may leave behind (a plugin
that hangs, key files). Never: a request (`fe.control.kubernetes.client`), a credential in a message: some messages of
the package hold the whole entry of a kubeconfig, so that they are cut or not repeated at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from fe import __version__
from fe.errors import FeError
from fe.log import logger

log = logger("control.kubernetes")

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOAD_WITHIN: Final = 30.0  # seconds; a kubeconfig's plugin may ask a cloud's login service
CONNECTIONS: Final = 256  # at once: a watch holds one
READ_BUFFER: Final = 1 << 16  # a connection is not read further ahead than twice this
PLUGIN_MARK: Final = b"KUBERNETES_EXEC_INFO="  # every plugin has it in its environment

Sending = Callable[[], Awaitable[None]]


class UnreachableError(FeError):
    """No answer that can be used: no connection, none in time, cut short, garbled, or no credential to ask with."""


class AccessError(UnreachableError):
    """There is no configuration or credential with which a request could be made."""


class UntrustedError(UnreachableError):
    """The server's certificate is not signed by the configured authority, which may have been replaced."""


@dataclass
class Access:
    """One loaded configuration. `api` is the package's ApiClient, whose credential refreshes itself where it can."""

    api: Any
    namespace: str  # fe's own, or that of the kubeconfig's context
    source: str  # where it comes from, for messages
    server: str  # URL
    files: bytes  # digest of its authority, certificate and key
    costly: bool = False  # a program or a login service gives its credential
    closed: bool = False

    def is_same(self, other: Access) -> bool:
        """Whether the other one has the same credential, server and authority, as they are now."""
        mine, its = (_trimmed(one.api.configuration.api_key) for one in (self, other))
        return (self.server, self.files, mine) == (other.server, other.files, its)

    async def close(self) -> None:
        """Ends every exchange that uses it."""
        self.closed = True
        await self.api.close()


async def load(
    kubeconfig: str | None,
    context: str | None,
    account: Path,
    environ: Mapping[str, str],
    on_sending: Sending,
) -> Access:
    """Reads the configuration. `on_sending` is awaited before each part of a request is written.

    A kubeconfig or context that is named is taken; else the pod's service account, else the default kubeconfig.
    Raises AccessError.
    """
    _quiet()
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in environ:
        return _load_account(account, environ, on_sending)
    path = kubeconfig or environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep) if part):
        raise AccessError(f"there is no kubeconfig at {path}, and fe does not run in a pod with a service account")
    try:
        async with asyncio.timeout(LOAD_WITHIN):
            return await _load_kubeconfig(path, context, on_sending)
    except TimeoutError:
        raise AccessError(f"{path}: its credential plugin gave nothing within {LOAD_WITHIN:g} s") from None
    finally:
        _end_plugins()


def _load_account(account: Path, environ: Mapping[str, str], on_sending: Sending) -> Access:
    from kubernetes.aio import client
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    configuration = client.Configuration()
    loader = InClusterConfigLoader(str(account / "token"), str(account / "ca.crt"), environ=environ)
    with _explained(f"the service account in {account}"):
        loader.load_and_set(configuration)
        files = _digest(configuration)
        api = _build_api(configuration, on_sending)
    namespace = "default"
    with contextlib.suppress(OSError):
        namespace = (account / "namespace").read_text().strip() or namespace
    return Access(api, namespace, f"service account in {account}", configuration.host, files)


async def _load_kubeconfig(path: str, context: str | None, on_sending: Sending) -> Access:
    from kubernetes.aio import client
    from kubernetes.aio.config import kube_config

    configuration = client.Configuration()
    with _explained(path):
        try:
            loader = await kube_config.load_kube_config(
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )
            if "exec" in (loader._user or ()) and not (configuration.api_key or configuration.cert_file):
                raise AccessError(f"{path}: its credential plugin {loader._user['exec']['command']} gave no credential")
            files = _digest(configuration)
            api = _build_api(configuration, on_sending)
        finally:
            # Keys and certificates in the file were written out for the TLS library, which has read them by now.
            kube_config._cleanup_temp_files()
    if not configuration.verify_ssl:
        log.warning("the API server's certificate is not verified: the kubeconfig says so", kubeconfig=path)
    chosen = loader.current_context
    namespace = chosen["context"].get("namespace") or "default"
    source = f"kubeconfig {path}, context {chosen['name']}"
    costly = any(how in (loader._user or ()) for how in ("exec", "auth-provider"))
    return Access(api, namespace, source, configuration.host, files, costly)


def _digest(configuration: Any) -> bytes:
    """To be taken before the TLS library reads them: what changes in between then counts as changed, not as known."""
    digest = hashlib.sha256()
    for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        digest.update(b"\0" if path is None else hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.digest()


def _trimmed(tokens: Mapping[str, str]) -> dict[str, str]:
    return {name: token.strip() for name, token in tokens.items()}


def _build_api(configuration: Any, on_sending: Sending) -> Any:
    from kubernetes.aio.client import ApiClient

    async def traced(_session: object, _context: object, _params: object) -> None:
        await on_sending()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(traced)  # aiohttp calls both before it writes, for all their names
    trace.on_request_chunk_sent.append(traced)
    configuration.trace_configs = [trace]
    configuration.client_session_kwargs = {"cookie_jar": aiohttp.DummyCookieJar(), "read_bufsize": READ_BUFFER}
    configuration.connection_pool_maxsize = CONNECTIONS
    # From Python 3.13 on, certificates without extensions that many clusters' own authorities never set would be
    # refused; chain, name and dates are verified as ever.
    configuration.disable_strict_ssl_verification = True
    _trim_tokens(configuration)
    api = ApiClient(configuration)
    api.user_agent = f"fe/{__version__}"
    return api


def _trim_tokens(configuration: Any) -> None:
    """Takes the line end off tokens, as client-go does: in a header it would be refused."""
    refresh = configuration.refresh_api_key_hook

    def hook(configuration: Any) -> None:
        if refresh is not None:
            with _explained("the service account's token"):
                refresh(configuration)
        configuration.api_key = _trimmed(configuration.api_key)
        configuration.refresh_api_key_hook = hook  # the package's own puts itself back

    configuration.refresh_api_key_hook = hook


@contextlib.contextmanager
def _explained(what: str) -> Any:
    """Whatever goes wrong inside is an AccessError that names `what` and shows nothing secret."""
    from kubernetes.aio.config import ConfigException

    try:
        yield
    except (FeError, TimeoutError):
        raise
    except ConfigException as error:
        why = str(error).partition(" in ")[0]  # behind " in " may follow the entry as it stands, with its token
        raise AccessError(f"{what}: {why.removeprefix('Invalid kube-config file. ')}") from None
    except ssl.SSLError as error:
        raise AccessError(f"{what}: a certificate or key in it is unusable ({error.reason})") from None
    except OSError as error:
        raise AccessError(f"{what}: {error.filename or ''} {error.strerror or type(error).__name__}") from None
    except Exception as error:
        raise AccessError(f"{what} cannot be used ({type(error).__name__})") from None


def _quiet() -> None:
    """The package logs what a plugin wrote to its stderr; that may be anything."""
    logging.getLogger("kubernetes.aio.config.kube_config").disabled = True


def _end_plugins() -> None:
    """Kills credential plugins that are still there: the package waits for them without a limit and leaves them."""
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            for pid in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    if PLUGIN_MARK in Path(f"/proc/{pid}/environ").read_bytes():
                        os.kill(int(pid), signal.SIGKILL)
