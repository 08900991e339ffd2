"""How many replicas a load needs, and how long requests wait for one then.

Owns: the one formula that the autoscaler and `fe size` share, and the queue M/M/c (Erlang C), stable for any number of
servers. Never: a decision over time (`fe.control.autoscaler`), text for people (`fe.commands.size`), a configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_NOISE: Final = 1e-9  # of a replica, per replica: 14 / 0.7 is 20 to people, and 20.000000000000004 to a computer


def replicas_for(load: float, capacity: int, target: float) -> int:
    """The fewest replicas on which `load` requests at once keep `target` (0..1) of `capacity` each in use."""
    return max(int(load > 0), math.ceil(load / (capacity * target) * (1 - _NOISE)))


@dataclass(frozen=True)
class Waiting:
    """What a queue before `servers` servers is like. Times in seconds; `inf` where the queue grows without bound."""

    servers: int
    utilization: float  # above 1: more is asked for than can be done
    probability: float  # that a request has to wait
    mean: float  # over all requests, those that do not wait included
    p99: float


def waiting(rate: float, seconds: float, servers: int) -> Waiting:
    """The queue M/M/c with `rate` arrivals per second of `seconds` each on average.

    Arrivals are random (Poisson), durations exponential, the queue is one, first in first out, and nobody gives up.
    """
    load = rate * seconds
    utilization = load / servers
    if load >= servers:
        return Waiting(servers, utilization, 1.0, math.inf, math.inf)
    probability = 1 / (utilization + (1 - utilization) * _inverse_loss(load, servers))
    mean = probability * seconds / (servers - load)
    p99 = max(0.0, math.log(probability * 100)) * seconds / (servers - load) if probability > 0 else 0.0
    return Waiting(servers, utilization, probability, mean, p99)


def _inverse_loss(load: float, servers: int) -> float:
    """1 / B(servers, load) of Erlang's loss formula for load < servers; inf when B is too small for a float.

    The sum over j of servers! / (servers - j)! / load^j. Its terms grow from 1 while servers - j > load, then fall
    faster than any geometric series: it overflows, or is complete after a few sqrt(servers) terms beyond the largest.
    """
    if load <= 0:
        return math.inf
    total = term = 1.0
    for left in range(servers, 0, -1):
        term *= left / load
        total += term
        if term < total * 1e-17 or total == math.inf:
            break
    return total
