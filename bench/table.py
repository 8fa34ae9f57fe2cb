"""Shows a report: as tables on the terminal, or as Markdown for the README."""

import re
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import spec

Report = dict[str, Any]
Rows = list[list[str]]


def number(value: float | None, digits: int, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def starred(text: str, row: Report) -> str:
    return text + "*" if row["disturbed"] else text


def duration(row: Report) -> str:
    """Return the time of a step, starred if other work disturbed it, with a word if its values are wrong."""
    text = starred(number(row["step_ms"], 2 if row["step_ms"] < 100 else 0, " ms"), row)
    return text if row["values_ok"] else text + " WRONG"


def case_rows(report: Report, case: str, titles: dict[str, str]) -> tuple[list[str], Rows]:
    """Return the head and the rows of one case's table."""
    head = ["", "step", "speed", "GF/s", "peak MB", "memory", "cold s", "warm s", "error"]
    rows = [
        [
            titles[peer],
            duration(row),
            number(row["speed"], 2, "x"),
            number(row["gflops"], 0),
            number(row["rss_mb"], 0),
            number(row["rss"], 2, "x"),
            number(row["first_cold_s"], 2),
            number(row["first_warm_s"], 2),
            f"{row['worst_error']:.0e}",
        ]
        for peer, row in report["summary"][case].items()
    ]
    return head, rows


def group_rows(report: Report, group: str, titles: dict[str, str]) -> tuple[list[str], Rows]:
    """Return the head and the rows of the table of cases that share a process: times, and the speed behind them."""
    summary = report["summary"]
    names = [case.name for case in spec.GROUPS[group]]
    peers = list(summary[names[0]])
    head = ["", *(titles[peer] for peer in peers)]
    rows = [
        [name.removeprefix(f"{group}.")]
        + [f"{duration(row)}, {number(row['speed'], 2, 'x')}" for row in summary[name].values()]
        for name in names
    ]
    return head, [*rows, ["peak MB of all", *(number(summary[names[0]][peer]["rss_mb"], 0) for peer in peers)]]


def overhead_rows(report: Report, titles: dict[str, str]) -> tuple[list[str], Rows]:
    rows = [
        [titles[peer], number(row["import_s"], 2, " s"), starred(number(row["call_us"], 1, " µs"), row)]
        for peer, row in report["summary"].get("overheads", {}).items()
    ]
    return ["overheads", "import", "call of a tiny function"], rows


def tables(report: Report, titles: dict[str, str]) -> list[tuple[str, list[str], Rows]]:
    """Return title, head and rows of every table that has rows."""
    found: list[tuple[str, list[str], Rows]] = []
    for group, cases in spec.GROUPS.items():
        if not any(report["summary"].get(case.name) for case in cases):
            continue
        if len(cases) > 1:
            found.append((f"{group}: operators", *group_rows(report, group, titles)))
        else:
            found.append((f"{group}: {cases[0].title}", *case_rows(report, group, titles)))
    found.append(("Overheads", *overhead_rows(report, titles)))
    floors = [
        [floor["what"], f"{floor['value']:.3g}", f"{floor['bound']:g}", "met" if floor["met"] else "MISSED"]
        for floor in report["floors"]
    ]
    found.append(("Floors", ["floor", "measured", "bound", ""], floors))
    return [entry for entry in found if entry[2]]


def caption(report: Report, titles: dict[str, str]) -> str:
    """Return what a reader must know to place the figures."""
    m, p = report["machine"], report["protocol"]
    versions = {
        f"{titles[peer]} {row['version']}": None
        for case in spec.CASES
        for peer, row in report["summary"].get(case, {}).items()
    }
    lines = [
        f"{m['cpu']}, {m['vector']}, {m['threads']} threads on {m['cpus']} CPUs, {m['memory_gb']} GB, {m['system']}, "
        f"Python {m['python']}; {report['when']}; {', '.join(versions)}.",
        f"Medians of {p['rounds']} interleaved rounds of fresh processes, {p['budget_s']:g} s of steps each. Speed "
        "(more is faster) and memory are relative to torch eager in the same round. Cold and warm: the first call, "
        "with empty compiler caches and in a later process.",
    ]
    if any(record["disturbed"] for record in report["records"]):
        lines.append(f"*: other work took more than {p['disturbed_above']:.0%} of the CPUs in one of the rounds.")
    lines += [f"{name} is left out: {reason}." for name, reason in report["absent"].items()]
    return "\n".join(lines)


def show(report: Report, titles: dict[str, str], console: Console) -> None:
    for title, head, rows in tables(report, titles):
        grid = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, name in enumerate(head):
            grid.add_column(name, justify="left" if i == 0 else "right", no_wrap=i < 2)
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
    console.print(caption(report, titles), highlight=False)


def piped(head: list[str], rows: Rows) -> str:
    """Return a Markdown table."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(report: Report, titles: dict[str, str]) -> str:
    """Return all tables but the floors', and what places them."""
    parts = [f"**{title}**\n\n{piped(head, rows)}" for title, head, rows in tables(report, titles) if title != "Floors"]
    return "\n\n".join([*parts, caption(report, titles).replace("\n", " ")])


def brief(report: Report, titles: dict[str, str]) -> str:
    """Return one table with a row per case: treadle's time and memory, and how fast all are beside the baseline."""
    others = [peer for peer in titles if peer != spec.BASELINE]
    base = titles[spec.BASELINE]
    head = ["", "treadle", base, *(f"{titles[peer]} : {base}" for peer in others), f"memory, treadle : {base}"]
    rows: Rows = []
    for case in spec.CASES.values():
        found = report["summary"].get(case.name, {})
        if "treadle" not in found:
            continue
        times = [duration(found[peer]) if peer in found else "-" for peer in ("treadle", spec.BASELINE)]
        speeds = [number(found.get(peer, {}).get("speed"), 2, "x") for peer in others]
        alone = len(spec.GROUPS[case.group]) == 1  # else the memory is that of a process with other cases
        rows.append(
            [f"{case.group}: {case.title}", *times, *speeds, number(found["treadle"]["rss"], 2, "x") if alone else ""]
        )
    return "\n\n".join([piped(head, rows), caption(report, titles).replace("\n", " ")])


def into(path: Path, text: str) -> None:
    """Write text between a page's `<!-- figures -->` marks."""
    pattern = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)
    page = path.read_text()
    if not pattern.search(page):
        raise SystemExit(f"bench: {path} has no `<!-- figures -->` ... `<!-- /figures -->` to fill.")
    path.write_text(pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page))
