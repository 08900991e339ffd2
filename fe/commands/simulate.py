"""`fe simulate`: what a deployment's settings would do under a load, as a table, JSON or a picture.

Owns: the command's options, what they take from a configuration, which of them do not go together. Never: the
simulation and the form of what is shown (`fe.simulation`), the rules of scaling (`fe.control.autoscaler`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from fe.commands.options import reads
from fe.config.schema import Deployment, RequestSettings, ScaleSettings
from fe.control.autoscaler import ScalePolicy
from fe.errors import ConfigError, ResourceError
from fe.simulation import draws, loads, report
from fe.simulation.run import Scenario, Simulation
from fe.simulation.values import count, duration, factor, positive, share

_EPILOG: Final = """\
loads (--load, as often as you like, one after the other):
  steady:RATE,LENGTH            evenly spaced requests; those of the other loads arrive at random
  poisson:RATE,LENGTH
  ramp:FROM-TO,LENGTH
  spike:BASE-PEAK,LENGTH,SPIKE  the spike stands in the middle
  diurnal:LEAST-MOST,LENGTH[,PERIOD]
times (--service, --start-up):
  lognormal:MEAN,SIGMA  exponential:MEAN  constant:TIME  uniform:LEAST-MOST

The decisions are those of fe-serve's autoscaler, in virtual time; requests are admitted, queued and handed over as
fe-serve does it. The same options and seed give the same outcome. docs/autoscaling.md explains the rules.

examples:
  fe simulate --load "ramp:0-200rps,10m" --service lognormal:200ms,0.8 --max-instances 80
  fe simulate --load poisson:50rps,5m --load spike:50-400rps,10m,1m --service exponential:300ms --explain
  fe simulate --config fe.yaml --deployment demo/main --trace arrivals.txt --service constant:80ms --png demo.png"""

_MOST_INSTANCES: Final = 100  # without a configuration: its own default, 1, would leave nothing to see

# option -> its parser, its metavar, its meaning; each stands for a key of the configuration
_SETTINGS: Final[dict[str, tuple[Callable[[str], Any], str, str]]] = {
    "concurrency": (positive, "COUNT", "requests at once per replica: max_concurrent_requests_per_instance"),
    "max_queue_length": (count, "COUNT", "requests that wait at once"),
    "max_queue_wait": (duration, "TIME", "longest wait for a place: max_queue_wait_ms"),
    "min_instances": (count, "COUNT", "fewest replicas"),
    "max_instances": (positive, "COUNT", f"most replicas (without a configuration: {_MOST_INSTANCES})"),
    "target": (share, "PERCENT", "utilization aimed at: target_utilization_percentage"),
    "polling_interval": (duration, "TIME", "between two looks at the load"),
    "scale_down_delay": (duration, "TIME", "down only to the highest need of this long"),
    "scale_to_zero_delay": (duration, "TIME", "without any load, before the last replica goes"),
    "cold_start_timeout": (duration, "TIME", "longest wait for the first replica"),
    "max_scale_up_rate": (factor, "FACTOR", "most growth at one look, as a factor of the ready replicas; 0: no limit"),
}


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """Replays a load through the autoscaler and a simulated deployment, and says what would happen."""
    parser.epilog = _EPILOG
    parser.set_defaults(run=_run)
    _add_load(parser.add_argument_group("the load"))
    option = parser.add_argument_group("the deployment (defaults: those of the configuration)").add_argument
    option("--config", metavar="PATH", help="take these settings from a configuration")
    option("--deployment", metavar="ENDPOINT/NAME", help="which of its deployments")
    for name, (parse, metavar, meaning) in _SETTINGS.items():
        option(f"--{name.replace('_', '-')}", type=reads(parse), metavar=metavar, help=meaning)
    option("--instances", type=reads(count), metavar="COUNT", help="ready at the beginning (default: the fewest)")
    option("--start-up", type=reads(draws.parse_draws), default="constant:30s", metavar="DRAW",
           help="until a new replica is ready (default: constant:30s)")  # fmt: skip
    option = parser.add_argument_group("what is shown").add_argument
    option("--every", type=reads(duration), metavar="TIME", help="length of a row (default: about 24 rows)")
    option("--explain", action="store_true", help="every change of the number of replicas with its reason")
    option("--json", action="store_true", help="print JSON, with every change")
    option("--png", metavar="FILE", help="draw it, too (needs matplotlib: pip install 'fe-router[plot]')")


def _add_load(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--load", type=reads(loads.parse_load), action="append", metavar="LOAD", help="generate it")
    source.add_argument("--trace", metavar="FILE", help="replay it: a line for each request with the second it arrives "
                                                        "at and, where known, the seconds it takes")  # fmt: skip
    group.add_argument("--service", type=reads(draws.parse_draws), metavar="DRAW", help="how long a replica takes")
    group.add_argument("--seed", type=reads(count), default=1, metavar="NUMBER", help="other chances (default: 1)")


def _run(options: argparse.Namespace) -> int:
    draw = _drawer(options.png) if options.png else None
    scenario = _build_scenario(options)
    every = report.usual_row(scenario) if options.every is None else round(options.every / scenario.polling_interval)
    outcome = Simulation(scenario).run(max(1, every))
    if options.json:
        print(json.dumps(report.as_dict(scenario, outcome), indent=2))
    else:
        print("\n".join(report.lines(scenario, outcome, explain=options.explain)))
    if draw is not None:
        try:
            draw(scenario, outcome)
        except (OSError, ValueError) as error:  # ValueError: the name ends in something that is no picture
            raise ResourceError(f"{options.png} cannot be written: {error}") from None
    return 0


def _drawer(path: str) -> Callable[..., None]:
    """Draws an outcome into the file. Raises ResourceError, before anything is simulated in vain."""
    try:
        from fe.simulation.chart import draw
    except ImportError:
        raise ResourceError("--png needs matplotlib, which is not installed: pip install 'fe-router[plot]'") from None
    return partial(draw, path)


# --- the scenario ----------------------------------------------------------------------------------------------------


def _build_scenario(options: argparse.Namespace) -> Scenario:
    """Raises ConfigError where the options do not go together."""
    source, service = _source(options)
    settings, instances = _settings(options)
    low, high, interval = settings["min_instances"], settings["max_instances"], settings["polling_interval"]
    if low > high:
        raise ConfigError([f"--min-instances {low} is more than --max-instances {high}"])
    if settings["concurrency"] == 0:
        raise ConfigError(["the deployment has no limit of requests per replica; give it one with --concurrency"])
    if interval < 0.001:
        raise ConfigError(["--polling-interval is too little: 1ms is the least"])
    policy = ScalePolicy(
        min_instances=low,
        max_instances=high,
        target=settings["target"],
        capacity=settings["concurrency"],
        scale_down_delay=settings["scale_down_delay"],
        scale_to_zero_delay=settings["scale_to_zero_delay"],
        max_scale_up_rate=settings["max_scale_up_rate"],
    )
    return Scenario(
        source=source,
        service=service,
        start_up=options.start_up,
        policy=policy,
        polling_interval=interval,
        max_queue_length=settings["max_queue_length"],
        max_queue_wait=settings["max_queue_wait"],
        cold_start_timeout=settings["cold_start_timeout"],
        instances=min(max(instances if options.instances is None else options.instances, low), high),
        seed=options.seed,
    )


def _source(options: argparse.Namespace) -> tuple[loads.Source, draws.Draws]:
    """What arrives, and how long it takes where the source does not say so itself."""
    missing = "--service is missing: how long does a request take? For example lognormal:200ms,0.8"
    if options.load:
        if options.service is None:
            raise ConfigError([missing])
        return loads.Loads(tuple(options.load)), options.service
    try:
        trace = loads.read_trace(options.trace)
    except OSError as error:
        raise ConfigError([f"{options.trace}: cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    if options.service is None and not trace.complete:
        raise ConfigError([missing, f"{options.trace} does not say it of every request"])
    return trace, options.service or draws.parse_draws("constant:0s")


def _settings(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Values for _SETTINGS from options, else the configuration, else its defaults; then the replicas at first."""
    if (options.config is None) != (options.deployment is None):
        raise ConfigError(["--config and --deployment ENDPOINT/NAME go together: one names the file, one what in it"])
    if options.config is None:
        request, scale = RequestSettings(), ScaleSettings(max_instances=_MOST_INSTANCES)
        instances = 0
    else:
        deployment = _configured(options.config, options.deployment)
        request, scale, instances = deployment.request_settings, deployment.scale_settings, deployment.replica_count()
        if not deployment.scales:
            scale = msgspec.structs.replace(scale, min_instances=instances, max_instances=max(1, instances))
    values = {name: getattr(scale, name) for name in _SETTINGS if hasattr(scale, name)}
    values["concurrency"] = request.max_concurrent_requests_per_instance
    values["max_queue_length"] = request.max_queue_length
    values["max_queue_wait"] = request.max_queue_wait_ms / 1000
    values["target"] = scale.target_utilization_percentage / 100
    return {
        name: values[name] if getattr(options, name) is None else getattr(options, name) for name in _SETTINGS
    }, instances


def _configured(path: str, name: str) -> Deployment:
    """The deployment `endpoint/name` of a configuration."""
    from fe.config.load import load

    config, _notes = load(path)
    found = {
        f"{endpoint.name}/{deployment.name}": deployment
        for endpoint in config.endpoints
        for deployment in endpoint.deployments
    }
    if name not in found:
        known = ", ".join(found) or "none"
        raise ConfigError([f"{path}: there is no deployment {name!r}; there are: {known}"])
    return found[name]
