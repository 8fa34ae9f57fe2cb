"""Runs the comparison: interleaved rounds of fresh processes, medians and ratios; prints tables, writes JSON.

Each measurement waits for a calm machine; one that other work disturbed is done again, and what stays disturbed is
marked. Compilers keep their caches in one temporary folder, empty in the first round and kept for the later ones, so
the first call is reported both cold and warm.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

import machine
import spec
import table

HERE = Path(__file__).parent
PEERS = {"treadle": "treadle_peer", "torch": "torch_eager", "torch-compile": "torch_compile", "jax": "jax_peer"}
TITLES = {"treadle": "treadle", "torch": "torch eager", "torch-compile": "torch.compile", "jax": "JAX"}
DISTURBED = 0.05  # share of the CPUs that other work took
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
Record = dict[str, Any]


@dataclass
class Suite:
    """The settings of one run, and what it has measured."""

    threads: int
    rounds: int
    budget: float
    retries: int
    patience: float
    console: Console
    caches: Path
    records: list[Record] = field(default_factory=list[Record])
    absent: dict[str, str] = field(default_factory=dict[str, str])

    def environment(self, case: str, peer: str) -> dict[str, str]:
        folder = self.caches / f"{case}-{peer}"
        paths = {
            "TREADLE_CACHE_DIR": "treadle",
            "TORCHINDUCTOR_CACHE_DIR": "inductor",
            "TRITON_CACHE_DIR": "triton",
            "JAX_COMPILATION_CACHE_DIR": "jax",
        }
        return {**os.environ, "PYTHONWARNINGS": "ignore", **{name: str(folder / leaf) for name, leaf in paths.items()}}

    def child(self, command: list[str], environment: dict[str, str]) -> str:
        environment = {**environment, "PYTHONDONTWRITEBYTECODE": ""}  # else each process would compile what is imported
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"bench: {' '.join(command[-3:])} failed with status {done.returncode}:\n{done.stderr[-4000:]}"
            )
        return done.stdout.strip().splitlines()[-1]

    def process(self, group: str, peer: str) -> Record:
        """Return what one fresh process measures: its records, or why there are none."""
        budget = min(self.budget, 1.0) if group == "tiny" else self.budget
        script = [str(HERE / "measure.py"), group, PEERS[peer], "--threads", str(self.threads), "--budget", str(budget)]
        return json.loads(self.child(script, self.environment(group, peer)))

    def measure(self, group: str, peer: str, turn: int) -> None:
        """Measure once, and again while other work disturbs it; keep the calmest."""
        if peer in self.absent:
            return
        tries: list[list[Record]] = []
        for attempt in range(1 + self.retries):
            if turn == 0:
                shutil.rmtree(self.caches / f"{group}-{peer}", ignore_errors=True)
            with self.console.status(f"waiting for a calm machine: {group}, {TITLES[peer]}"):
                machine.wait_until_calm(DISTURBED, self.patience)
            with self.console.status(f"round {turn + 1} of {self.rounds}: {group}, {TITLES[peer]}"):
                found = self.process(group, peer)
            if "unavailable" in found:
                self.absent[peer] = found["unavailable"]
                self.console.print(f"[yellow]{TITLES[peer]} is left out: {found['unavailable']}")
                return
            about = {"peer": peer, "round": turn, "attempt": attempt, "cold": turn == 0}
            tries.append([{**record, **about} for record in found["records"]])
            if busiest(tries[-1]) <= DISTURBED:
                break
        for record in min(tries, key=busiest):
            self.records.append({**record, "disturbed": record["other_share"] > DISTURBED})

    def imports(self, peer: str) -> float:
        """Return the seconds that importing a framework takes, compiled bytecode present."""
        module = "treadle" if peer == "treadle" else "jax" if peer == "jax" else "torch"
        times = [float(self.child(["-c", IMPORT.format(module)], dict(os.environ))) for _ in range(6)]
        return median(times[1:])

    def pick(self, case: str, peer: str) -> list[Record]:
        return [record for record in self.records if record["case"] == case and record["peer"] == peer]


def busiest(records: list[Record]) -> float:
    """Return the largest share that other work took while any of these was measured."""
    return max(record["other_share"] for record in records)


def ratio(suite: Suite, case: str, peer: str, value: Callable[[Record], float]) -> float | None:
    """Return the median over the rounds of peer / baseline, both measured in the same round."""
    base = {record["round"]: value(record) for record in suite.pick(case, spec.BASELINE)}
    pairs = [(value(record), base.get(record["round"])) for record in suite.pick(case, peer)]
    ratios = [mine / other for mine, other in pairs if other]
    return median(ratios) if ratios else None


def summarise(suite: Suite, groups: list[str], peers: list[str], imports: dict[str, float]) -> Record:
    """Return medians and ratios by case and peer."""
    summary: Record = {}
    for case, gflop in ((case.name, case.gflop) for group in groups for case in spec.GROUPS[group]):
        summary[case] = {}
        for peer in peers:
            records = suite.pick(case, peer)
            if not records:
                continue
            step = median(record["step_ms_median"] for record in records)
            cold = [record["first_call_s"] for record in records if record["cold"]]
            warm = [record["first_call_s"] for record in records if not record["cold"]]
            summary[case][peer] = {
                "version": records[0]["version"],
                "step_ms": step,
                "step_ms_min": min(record["step_ms_min"] for record in records),
                "gflops": None if gflop is None else gflop / step * 1e3,
                "speed": ratio(suite, case, peer, lambda record: 1 / record["step_ms_median"]),
                "rss_mb": median(record["rss_mb"] for record in records),
                "rss": ratio(suite, case, peer, lambda record: record["rss_mb"]),
                "first_cold_s": median(cold) if cold else None,
                "first_warm_s": median(warm) if warm else None,
                "compile_s": median(record["compile_s"] for record in records if record["cold"] or not cold),
                "build_s": median(record["build_s"] for record in records),
                "worst_error": max(record["worst_error"] for record in records),
                "values_ok": all(record["values_ok"] for record in records),
                "disturbed": any(record["disturbed"] for record in records),
            }
    summary["overheads"] = {
        peer: {
            "import_s": imports[peer],
            "call_us": median(record["call_us_median"] for record in tiny),
            "disturbed": any(record["disturbed"] for record in tiny),
        }
        for peer in peers
        if (tiny := suite.pick("tiny", peer))
    }
    return summary


def floors(summary: Record) -> list[tuple[spec.Floor, float, bool]]:
    """Return each floor that was measured: its value, and whether it is met."""
    found: list[tuple[spec.Floor, float, bool]] = []
    for floor in spec.FLOORS:
        case, peer, key = floor.path
        value = summary.get(case, {}).get(peer, {}).get(key)
        if value is not None:
            found.append((floor, value, value >= floor.bound if floor.at_least else value <= floor.bound))
    return found


def chosen(text: str, allowed: list[str], what: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in allowed]:
        raise SystemExit(f"bench: unknown {what} {', '.join(unknown)}; allowed are {', '.join(allowed)}.")
    return names


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(spec.GROUPS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--rounds", type=int, default=3, help="processes per case and peer (default: %(default)s)")
    parser.add_argument(
        "--budget", type=float, default=5.0, help="seconds of timed steps a process (default: %(default)s)"
    )
    parser.add_argument("--retries", type=int, default=2, help="how often a disturbed round is measured again")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds to wait for a calm machine, each time")
    parser.add_argument("--no-overheads", action="store_true", help="leave out import and call times")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables, for the README")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md and docs/benchmarks.md")
    parser.add_argument("--show", metavar="JSON", help="print the tables of an earlier run instead of measuring")
    parser.add_argument("--output", type=Path, default=HERE.parent / "bench-results", help="folder for the JSON")
    choice = parser.parse_args()
    for name in ("threads", "rounds", "budget"):
        if not getattr(choice, name) > 0:
            raise SystemExit(f"bench: --{name} is {getattr(choice, name)}; allowed are numbers above 0.")
    if choice.show and not Path(choice.show).is_file():
        raise SystemExit(f"bench: {choice.show} does not exist; name a file that an earlier run wrote.")
    return choice


def run(choice: argparse.Namespace, console: Console) -> Record:
    """Measure everything, and return the report."""
    groups = chosen(choice.cases, list(spec.GROUPS), "case")
    peers = chosen(choice.peers, list(PEERS), "peer")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        suite = Suite(choice.threads, choice.rounds, choice.budget, choice.retries, choice.wait, console, Path(folder))
        for turn in range(choice.rounds):
            # Another peer goes first in each round, so that none has the warmest or the coolest machine.
            for group in groups + ([] if choice.no_overheads else ["tiny"]):
                for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
                    suite.measure(group, peer, turn)
        here = [peer for peer in peers if peer not in suite.absent]
        imports = {} if choice.no_overheads else {peer: suite.imports(peer) for peer in here}
    summary = summarise(suite, groups, here, imports)
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": machine.describe(choice.threads),
        "protocol": {"rounds": choice.rounds, "budget_s": choice.budget, "disturbed_above": DISTURBED},
        "absent": {TITLES[peer]: reason for peer, reason in suite.absent.items()},
        "summary": summary,
        "floors": [{"what": f.what, "value": value, "bound": f.bound, "met": met} for f, value, met in floors(summary)],
        "records": suite.records,
    }


def main() -> None:
    choice = options()
    console = Console(stderr=choice.markdown)
    if choice.show:
        report = json.loads(Path(choice.show).read_text())
    else:
        report = run(choice, console)
        choice.output.mkdir(parents=True, exist_ok=True)
        path = choice.output / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.write_text(json.dumps(report, indent=1))
        console.print(f"written to {path}")
    if choice.readme:
        table.into(HERE.parent / "README.md", table.brief(report, TITLES))
        table.into(HERE.parent / "docs" / "benchmarks.md", table.markdown(report, TITLES))
    if choice.markdown:
        print(table.markdown(report, TITLES))
    else:
        table.show(report, TITLES, console)
    wrong = [
        f"{case} {peer}"
        for case in spec.CASES
        for peer, row in report["summary"].get(case, {}).items()
        if not row["values_ok"]
    ]
    if wrong:
        raise SystemExit(
            f"bench: the values differ from the reference: {', '.join(wrong)}. Times of wrong steps mean nothing."
        )


if __name__ == "__main__":
    main()
