"""One measurement: one case (or the group of them that K1 is), one peer, in this process; prints one line of JSON.

Threads and the processor mask are set before any framework is imported, which is why imports are inside functions.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

WARM_UP = 3
LEAST = 3  # timed steps, however long they take
TINY_BATCH = 500


def pin(threads: int) -> set[int]:
    """Give this process exactly `threads` CPUs, and tell every library so."""
    cpus = set(sorted(os.sched_getaffinity(0))[:threads])
    if len(cpus) < threads:
        raise SystemExit(f"bench: {threads} threads asked, {len(cpus)} CPUs allowed; pass --threads {len(cpus)}.")
    os.sched_setaffinity(0, cpus)
    for name in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["TREADLE_THREADS"] = str(threads)
    os.environ["NPROC"] = str(threads)  # XLA
    return cpus


def timed(step: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = step()
    return time.perf_counter() - start, result


def mean_size(result: Any) -> float:
    """Return the mean absolute value, in float64 by pieces: memory for a copy would count as the framework's."""
    import numpy as np

    flat = np.asarray(result).reshape(-1)
    pieces = np.array_split(flat, max(1, flat.size >> 16))
    return sum(float(np.abs(piece).sum(dtype=np.float64)) for piece in pieces) / flat.size


def measure_case(peer: Any, name: str, budget: float, cpus: set[int], start: float) -> dict[str, Any]:
    """Return times, memory and values of a case's step."""
    import machine
    import spec

    case = spec.CASES[name]
    step = peer.STEPS[name](case.values(), case.batch())
    build = time.perf_counter() - start
    values: list[float] = []

    def call() -> float:
        seconds, result = timed(step)
        if len(values) < len(case.reference):
            values.append(mean_size(result))
        return seconds

    watch = machine.Watch(cpus)
    warm_up = [call() for _ in range(WARM_UP)]
    watch.start()
    end = time.perf_counter() + budget * case.share
    times: list[float] = []
    while time.perf_counter() < end or len(values) < len(case.reference) or len(times) < LEAST:
        times.append(call())
    weather = watch.stop()

    worst = max(abs(got - want) / want for got, want in zip(values, case.reference, strict=True))
    steady = median(times)
    return {
        "case": name,
        "step_ms_median": steady * 1e3,
        "step_ms_min": min(times) * 1e3,
        "step_ms_p10": quantiles(times, n=10)[0] * 1e3,
        "steps": len(times),
        "first_call_s": warm_up[0],
        "compile_s": max(0.0, sum(warm_up) - WARM_UP * steady),
        "build_s": build,
        "vals": values,
        "worst_error": worst,
        "values_ok": bool(worst <= case.tolerance),
        **weather,
    }


def measure_group(peer: Any, name: str, budget: float, cpus: set[int], start: float) -> list[dict[str, Any]]:
    """Return one record per case; the peak memory is that of the process, which all of them share."""
    import spec

    found: list[dict[str, Any]] = []
    for case in spec.GROUPS[name]:
        found.append(measure_case(peer, case.name, budget, cpus, start))
        start = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [{**record, "rss_mb": peak} for record in found]


def measure_tiny(peer: Any, budget: float, cpus: set[int]) -> dict[str, Any]:
    """Return what one call of a compiled function costs when its arithmetic costs nothing."""
    import machine

    call = peer.tiny()
    for _ in range(TINY_BATCH):
        call()
    watch = machine.Watch(cpus)
    watch.start()
    end = time.perf_counter() + budget
    times: list[float] = []
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(TINY_BATCH):
            call()
        times.append((time.perf_counter() - start) / TINY_BATCH)
    return {"case": "tiny", "call_us_median": median(times) * 1e6, "call_us_min": min(times) * 1e6, **watch.stop()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="T1 ... T5, I1, K1 or tiny")
    parser.add_argument("peer", help="file in peers/, without .py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of timed steps")
    options = parser.parse_args()

    cpus = pin(options.threads)
    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    start = time.perf_counter()
    try:
        peer: Any = __import__(options.peer)
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    if reason := getattr(peer, "unavailable", lambda: None)():
        print(json.dumps({"unavailable": reason}))
        return
    peer.set_threads(options.threads)
    if options.case == "tiny":
        found = [measure_tiny(peer, options.budget, cpus)]
    else:
        found = measure_group(peer, options.case, options.budget, cpus, start)
    about = {"peer": options.peer, "version": peer.version()}
    print(json.dumps({"records": [{**record, **about} for record in found]}))


if __name__ == "__main__":
    main()
