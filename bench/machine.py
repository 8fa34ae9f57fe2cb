"""What the machine is, and how much of it other work took while something was measured."""

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")


def describe(threads: int) -> dict[str, Any]:
    """Return the facts a reader needs to place the figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    flags = set(facts.get("flags", "").split())
    return {
        "cpu": facts.get("model name", platform.processor()),
        "vector": "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE",
        "cpus": len(os.sched_getaffinity(0)),
        "threads": threads,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def busy_seconds(cpus: set[int]) -> float:
    """Return how long these CPUs have been at work since the machine started, time taken by the hypervisor included."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total / TICK


@dataclass
class Watch:
    """Measures the share of the CPUs that other work takes, from `start` to `stop`."""

    cpus: set[int]

    def start(self) -> None:
        self.began = self.now()

    def now(self) -> tuple[float, float, float, int]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), busy_seconds(self.cpus), usage.ru_utime + usage.ru_stime, usage.ru_nivcsw

    def stop(self) -> dict[str, float]:
        wall, busy, own, switches = (b - a for a, b in zip(self.began, self.now(), strict=True))
        # The kernel counts busy time in ticks, so a short watch may come out a little below zero.
        other = max(0.0, busy - own) / (wall * len(self.cpus))
        return {"other_share": round(other, 4), "involuntary_switches": switches, "load": os.getloadavg()[0]}


def wait_until_calm(share: float, patience: float) -> None:
    """Return when other work has taken at most this share of the CPUs for a second, or when patience (seconds) ends."""
    cpus = os.sched_getaffinity(0)
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        watch = Watch(cpus)
        watch.start()
        time.sleep(1)
        if watch.stop()["other_share"] <= share:
            return
