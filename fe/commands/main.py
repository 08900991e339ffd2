"""The command `fe`: its subcommands by name, and what they have in common.

Owns: the list of commands, how errors are shown, the exit code. Never: the work of a command; each has a function that
adds its options to a parser and sets `run`, in a module that is imported only for the command that was asked for.
A new command is a line in COMMANDS. Exit codes are those of docs/operations.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from fe import __version__, log
from fe.errors import EXIT_INTERNAL, EXIT_OK, FeError

EXIT_INTERRUPTED: Final = 130  # as a shell says it of SIGINT

# name -> module:function that adds its options, what it does
COMMANDS: Final = {
    "size": ("fe.commands.size:add_size", "how many replicas a load needs, and how long requests wait for one then"),
    "simulate": ("fe.commands.simulate:add_simulate", "what a deployment's settings would do under a load"),
    "check": ("fe.commands.check:add_check", "whether fe-serve could do its work here, and what to mend"),
    "status": ("fe.commands.status:add_status", "what a running fe-serve is doing"),
    "scale": ("fe.commands.act:add_scale", "set the number of replicas by hand"),
    "drain": ("fe.commands.act:add_drain", "take a replica out"),
    "undrain": ("fe.commands.act:add_undrain", "put a replica back"),
}

_DESCRIPTION: Final = """\
fe is the tool beside fe-serve, the inference router: for planning before it runs, and for looking after it while it
does. `fe COMMAND --help` explains a command."""

_EPILOG: Final = """\
examples:
  fe size --rps 20 --seconds 10                  replicas for 20 requests/s that take 10 s each
  fe simulate --load "ramp:0-200rps,10m" --service lognormal:200ms,0.8
  fe simulate --config fe.yaml --deployment demo/main --trace arrivals.txt --explain
  fe check --config fe.yaml                      the configuration, the replicas, the cluster: what is wrong

exit codes:
  0  done
  1  a fault of fe itself, or fe-serve has refused, or a check has failed
  2  wrong usage or configuration
  3  something is missing: a file that can be written, a package, a running fe-serve, what it needs

docs/autoscaling.md explains sizing and scaling, docs/operations.md running fe-serve."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: the command line's) and returns its exit code."""
    log.ensure_standard_fds()
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _build_parser(words).parse_args(words)
    try:
        code: int = options.run(options)
        print(end="", flush=True)  # not at exit, where a reader that has gone would be a traceback
    except FeError as error:
        _complain([f"fe {options.command}: {line}" for line in str(error).splitlines()])
        return error.exit_code
    except BrokenPipeError:  # `fe simulate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        log.logger("fe").exception("fe failed", command=options.command)
        _complain([f"fe {options.command}: a fault of fe itself: {type(error).__name__}"])
        return EXIT_INTERNAL
    return code


def _build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """With the options of the one command that is asked for: only its module is imported."""
    parser = argparse.ArgumentParser(
        prog="fe",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fe {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, (where, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == asked:
            module, _, function = where.partition(":")
            add = getattr(import_module(module), function)
            command.description = add.__doc__
            add(command)
    return parser


def _complain(lines: Sequence[str]) -> None:
    """Plain lines on stderr, whatever state it is in."""
    output = log.Output(2)
    output.write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"), len(lines))
    output.close()


if __name__ == "__main__":
    raise SystemExit(main())
