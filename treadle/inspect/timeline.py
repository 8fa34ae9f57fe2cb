"""One step as a Chrome trace: a row per thread, every piece of a kernel with the user's lines and its rate of work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from treadle.jit import Plan
from treadle.jit.order import Step
from treadle.runtime import Profile, TaskTime

from .kernels import sources_of
from .places import places_of

WAIT_COLOUR = "grey"


def chrome_trace(plan: Plan, profile: Profile) -> str:
    """Return the trace of the fastest step of a profile; open it in Perfetto or chrome://tracing."""
    step = min(profile.steps, key=lambda times: max((t.stop_ns for t in times), default=0), default=())
    title = plan.origin.name or "plan"
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": f"one step of {title}"}},
        *[
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": t, "args": {"name": f"thread {t}"}}
            for t in range(plan.num_threads)
        ],
    ]
    members = plan.members
    steps = dict.fromkeys(call.step for call in plan.calls)
    lines = {s: [str(place) for place in places_of(sources_of(plan, s, members))] for s in steps}
    events += [_event(plan, time, lines) for time in step]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})


def _event(plan: Plan, time: TaskTime, lines: Mapping[Step, list[str]]) -> dict[str, Any]:
    nanoseconds = time.stop_ns - time.start_ns
    event: dict[str, Any] = {
        "name": "wait",
        "cat": "wait",
        "ph": "X",
        "pid": 0,
        "tid": time.thread,
        "ts": time.start_ns / 1000,
        "dur": nanoseconds / 1000,
    }
    if time.kernel < 0:
        return {**event, "cname": WAIT_COLOUR, "args": {}}
    step = plan.calls[time.kernel].step
    kernel = step.kernel
    part = (time.hi - time.lo) / max(kernel.num_tiles, 1)
    about = {
        "call": time.kernel,
        "kind": kernel.kind,
        "tiles": f"{time.lo} to {time.hi} of {kernel.num_tiles}",
        "GFLOP/s": round(kernel.flops * part / max(nanoseconds, 1), 2),
        "GB/s": round(kernel.nbytes * part / max(nanoseconds, 1), 2),
        "lines": lines[step],
    }
    return {**event, "name": kernel.name, "cat": "kernel", "args": about}
