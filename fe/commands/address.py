"""Where the admin server of a running fe-serve is: the options `--admin` and `--config` of the commands that ask it.

Owns: those options and what follows from them. Never: a connection (`fe.commands.client`). Of a configuration only
`admin` is read, so that a file which somebody is editing, or whose keys are not ours to read, does as well.
"""

from __future__ import annotations

import argparse
import os
from typing import Final

import fe.config.kinds  # noqa: F401 - registers the kinds of values
from fe.commands.text import printable
from fe.config import source
from fe.config.addresses import Address, AddressError, parse_address
from fe.config.problems import Findings, Place
from fe.config.reader import Reader, fields_of, read_value
from fe.config.schema import RouterConfig
from fe.errors import ConfigError

DEFAULT: Final = RouterConfig().admin[0]
REACHED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked there, not bound


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--admin` and `--config`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--admin",
        metavar="ADDRESS",
        type=_argument,
        help=f"fe-serve's admin address: host:port, [v6]:port or unix:PATH (default: {DEFAULT})",
    )
    group.add_argument("--config", metavar="PATH", help="fe-serve's configuration, which says its admin address")


def find(options: argparse.Namespace) -> Address:
    """The address that the options name. Raises ConfigError."""
    if options.admin is not None:
        address: Address = options.admin
        return address
    return _configured(options.config) if options.config else parse_address(DEFAULT)


def _argument(text: str) -> Address:
    try:
        return parse_address(text, os.getcwd())
    except AddressError as error:
        raise argparse.ArgumentTypeError(f"{printable(text)!r} {error}") from None


def _configured(path: str) -> Address:
    """The first admin address of a configuration: a file, or a folder of files."""
    named = [address for file in _files(path) for address in _admin(file)]
    address = parse_address(named[0] if named else DEFAULT)
    if address.family != "unix" and address.port == 0:
        raise ConfigError([f"{path}: admin: port 0 is any free one; give --admin with the one that was taken"])
    return address._replace(host=REACHED.get(address.host, address.host))


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    names = sorted(os.listdir(path))
    return [os.path.join(path, name) for name in names if name.endswith((".yaml", ".yml")) and name[0] != "."]


def _admin(file: str) -> list[str]:
    """The admin addresses that this file names; none if it names none. Raises ConfigError when it cannot be read."""
    findings = Findings()
    reader = Reader(findings, os.path.dirname(os.path.abspath(file)), {})
    try:
        documents = source.parse_documents(source.read_text(file), file, findings)
    except ValueError as error:
        raise ConfigError([f"{file}: {error}"]) from None
    place = Place(file).key("admin")
    for node in documents:
        if isinstance(node, source.Mapping) and "admin" in node.entries:
            named = read_value(reader, node.entries["admin"], place, fields_of(RouterConfig)["admin"])
            if named == ():
                findings.problem(place, "is empty: this fe-serve has no admin server")
            findings.raise_problems()
            return list(named or ())
    findings.raise_problems()
    return []
