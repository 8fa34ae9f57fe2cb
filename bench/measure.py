"""One measurement: one case, one peer, in this process; prints one line of JSON.

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


def measure_case(peer: Any, name: str, budget: float, cpus: set[int], start: float) -> dict[str, Any]:
    """Return times, memory and losses of a training step."""
    import machine
    import spec

    case = spec.CASES[name]
    step = peer.STEPS[name](case.values(), case.batch())
    build = time.perf_counter() - start
    watch = machine.Watch(cpus)

    calls = [timed(step) for _ in range(WARM_UP)]
    warm_up = [seconds for seconds, _ in calls]
    watch.start()
    end = time.perf_counter() + budget
    times: list[float] = []
    while time.perf_counter() < end or len(calls) < len(case.losses):
        seconds, loss = timed(step)
        times.append(seconds)
        if len(calls) < len(case.losses):
            calls.append((seconds, loss))
    weather = watch.stop()

    losses = [float(loss) for _, loss in calls[: len(case.losses)]]
    worst = max(abs(got - want) / want for got, want in zip(losses, case.losses, strict=True))
    steady = median(times)
    return {
        "step_ms_median": steady * 1e3,
        "step_ms_min": min(times) * 1e3,
        "step_ms_p10": quantiles(times, n=10)[0] * 1e3,
        "steps": len(times),
        "first_call_s": warm_up[0],
        "compile_s": max(0.0, sum(warm_up) - WARM_UP * steady),
        "build_s": build,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "vals": losses,
        "worst_loss_error": worst,
        "losses_ok": bool(worst <= case.tolerance),
        **weather,
    }


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
    return {"call_us_median": median(times) * 1e6, "call_us_min": min(times) * 1e6, **watch.stop()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="T1, T3, T4 or tiny")
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
        found = measure_tiny(peer, options.budget, cpus)
    else:
        found = measure_case(peer, options.case, options.budget, cpus, start)
    print(json.dumps({"case": options.case, "peer": options.peer, "version": peer.version(), **found}))


if __name__ == "__main__":
    main()
