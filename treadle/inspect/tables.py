"""An explanation for people: rich tables of everything, or a summary in a dozen lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from treadle.runtime import Machine

from .decisions import DecisionReport
from .kernels import KernelReport
from .places import Place, short_path
from .report import Report

MOST_PLACES = 4  # lines shown of one kernel
MOST_DECISIONS = 24  # refusals shown; all are in the JSON
MOST_LIVE = 12
WIDE = 105  # columns of a terminal from which kernels are a table
SHORT_NS = 100  # a ratio says nothing of a kernel as short as taking its time
TOP = 5  # kernels in the summary


def render(e: Report, width: int) -> Iterator[RenderableType]:
    """Yield the parts of the report in reading order, for a terminal of `width` columns."""
    title = f"{e.name or 'plan'} on {e.num_threads} thread{'s' if e.num_threads > 1 else ''}, {e.cpu}"
    yield Text(title, style="bold")
    yield Text(f"inputs: {_some(e.inputs, 6)}")
    yield Text(_time_line(e))
    yield Text(f"measured: {e.measured_on}", style="dim")
    yield from _section("passes", _passes(e))
    yield from _section("kernels", *([_kernels(e)] if width >= WIDE else _kernel_list(e)))
    note = (
        "Times are per call. least: what the roofline of this machine allows on the call's threads, max(flops / peak, "
        "bytes / bandwidth); limit: which of the two it is, with the memory that the call's bytes fit in; ratio: "
        f"measured over least. The roofline, {'measured' if e.machine.measured else 'assumed'}: {_roofline(e.machine)}."
    )
    yield Padding(Text(note, style="dim"), (0, 2))
    yield from _section("fusion", *_fusion(e))
    yield from _section("memory", *_memory(e))
    yield from _section("threads", *_threads(e))
    yield from _section("compile time", _compile_time(e))
    if e.recompiles:
        reasons = "\n".join(f"{k}. {reason}" for k, reason in enumerate(e.recompiles, 2))
        yield from _section(f"compiled {len(e.recompiles) + 1} times", Text(reasons))


def summary(e: Report) -> str:
    """Return the main figures in a dozen lines."""
    calls = sum(len(k.calls) for k in e.kernels)
    counts = ", ".join(f"{step.name} {step.after}" for step in e.passes[:-1])
    slowest = sorted(e.compile_seconds.items(), key=lambda item: -item[1])[:4]
    memory = e.memory
    lines = [
        f"program   {e.name or 'plan'}: {calls} calls of {len(e.kernels)} kernels, {count(e.flops)}FLOP, "
        f"{count(e.nbytes)}B moved",
        f"time      {_time_line(e)}",
        f"threads   {_thread_line(e)}",
        f"passes    nodes: {counts}; fused to {e.passes[-1].after} kernels",
        f"fusion    {_fusion_line(e)}",
        f"memory    temporaries {count(memory.peak)}B (lower bound {count(memory.lower_bound)}B), "
        f"state {count(memory.state)}B",
        f"compile   {sum(e.compile_seconds.values()):.2f} s: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in slowest),
    ]
    for k, kernel in enumerate(e.kernels[:TOP]):
        head = "kernels" if k == 0 else ""
        lines.append(
            f"{head:9} {kernel.share:4.0%} {len(kernel.calls):3}x {kernel.name}: {duration(kernel.measured_ns)}, "
            f"ratio {_ratio(kernel)}{_shortest(kernel.places)}"
        )
    return "\n".join(lines)


def _shortest(places: Sequence[Place]) -> str:
    """Return where a kernel comes from in few words: the first module, or else the line."""
    modules = [module for place in places for module in place.modules]
    if modules:
        return f", {modules[0]}"
    return f", {short_path(places[0].file)}:{places[0].line}" if places else ""


# ---- parts


def _section(title: str, *parts: RenderableType) -> Iterator[RenderableType]:
    yield Text()
    yield Text(title, style="bold cyan")
    for part in parts:
        yield Padding(part, (0, 0, 0, 2))


def _table(*columns: str) -> Table:
    """Return a plain table; columns that start with > are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right)
    return table


def _roofline(machine: Machine) -> str:
    """Return the rates with one thread and with all."""
    one, every = (figure.value / 1e9 for figure in machine.flops)
    parts = [f"{one:.0f} GFLOP/s on 1 thread, {every:.0f} on {machine.num_threads}"]
    for level in machine.levels:
        one, every = (figure.value / 1e9 for figure in level.copy)
        parts.append(f"{level.name} {one:.0f} and {every:.0f} GB/s")
    return "; ".join(parts)


def _passes(e: Report) -> Table:
    table = _table("pass", ">nodes before", ">after", "")
    for step in e.passes:
        table.add_row(step.name, f"{step.before}", f"{step.after}", Text(step.doc, style="dim"))
    return table


def _kernels(e: Report) -> Table:
    table = _table(">share", ">calls", "kernel", ">FLOP", ">B", ">FLOP/B", "limit", ">least", ">measured", ">ratio")
    for kernel in e.kernels:
        table.add_row(
            f"{kernel.share:.1%}",
            f"{len(kernel.calls)}",
            Text(kernel.name, style="bold").append_text(_about(kernel)),
            count(kernel.flops),
            count(kernel.nbytes),
            f"{kernel.intensity:.1f}",
            kernel.limit,
            duration(kernel.predicted_ns),
            duration(kernel.measured_ns),
            _ratio(kernel),
        )
    return table


def _kernel_list(e: Report) -> Iterator[RenderableType]:
    """Yield what the table says, kernel by kernel."""
    for kernel in e.kernels:
        yield Text(f"{kernel.share:5.1%} {len(kernel.calls):3}x ").append(kernel.name, style="bold")
        figures = (
            f"{count(kernel.flops)}FLOP, {count(kernel.nbytes)}B, {kernel.intensity:.1f} FLOP/B; "
            f"least {duration(kernel.predicted_ns)} ({kernel.limit}), measured {duration(kernel.measured_ns)}, "
            f"ratio {_ratio(kernel)}"
        )
        yield Padding(Text(figures).append_text(_about(kernel)), (0, 0, 0, 6))


def _ratio(kernel: KernelReport) -> str:
    return f"{kernel.ratio:.2f}" if kernel.predicted_ns >= SHORT_NS else "-"


def _about(kernel: KernelReport) -> Text:
    """Return lines for the types of a kernel's operands and results, and for the user's lines."""
    text = Text(f"\n{_some(kernel.reads, 4)} -> {_some(kernel.makes, 3)}", style="not bold")
    for place in kernel.places[:MOST_PLACES]:
        text.append(f"\n{place}", style="dim")
    more = len(kernel.places) - MOST_PLACES
    if more > 0:
        text.append(f"\nand {more} more lines", style="dim")
    if not kernel.places:
        text.append("\nno user line", style="dim")
    return text


def _fusion(e: Report) -> Iterator[RenderableType]:
    yield Text(_fusion_line(e))
    joined: dict[str, int] = {}
    for decision in e.decisions:
        if decision.fused:
            joined[decision.reason] = joined.get(decision.reason, 0) + decision.count
    if joined:
        table = _table(">joined", "reason")
        for reason, number in sorted(joined.items(), key=lambda item: -item[1]):
            table.add_row(f"{number}", reason)
        yield table
    refusals = e.refusals
    if refusals:
        table = _table(">refused", ">B", "value", "reader", "reason")
        for decision in refusals[:MOST_DECISIONS]:
            table.add_row(f"{decision.count}", count(decision.nbytes), *_ends(decision), decision.reason)
        yield table
        if len(refusals) > MOST_DECISIONS:
            more = len(refusals) - MOST_DECISIONS
            yield Text(f"and {more} more of smaller values (all are in the JSON)", style="dim")


def _ends(decision: DecisionReport) -> tuple[Text, Text]:
    return (
        _end(decision.producer, decision.producer_places),
        _end(decision.consumer, decision.consumer_places),
    )


def _end(what: str, places: Sequence[Place]) -> Text:
    text = Text(what)
    for place in places[:1]:
        text.append(f"\n{place}", style="dim")
    return text


def _memory(e: Report) -> Iterator[RenderableType]:
    memory = e.memory
    yield Text(_memory_line(e))
    if memory.peak:
        yield Text(
            f"{memory.num_blocks} temporaries would take {count(memory.without_reuse)}B side by side. "
            f"Alive at the peak, call {memory.peak_call} ({memory.peak_kernel}):"
        )
        table = _table(">values", ">B", "type", ">calls", "made by")
        for blocks in memory.live[:MOST_LIVE]:
            made = Text(blocks.made_by)
            for place in blocks.places[:2]:
                made.append(f"\n{place}", style="dim")
            calls = f"{blocks.calls[0]} to {blocks.last}"
            table.add_row(f"{blocks.count}", count(blocks.nbytes), _some(blocks.values, 2), calls, made)
        yield table
        rest = memory.live[MOST_LIVE:]
        if rest:
            number = sum(blocks.count for blocks in rest)
            yield Text(f"and {number} more of {count(sum(b.nbytes for b in rest))}B", style="dim")


def _threads(e: Report) -> Iterator[RenderableType]:
    yield Text(_thread_line(e))
    table = _table(">thread", ">pieces", ">waits", ">in kernels", ">waiting")
    for k, thread in enumerate(e.schedule.threads):
        times = (duration(thread.busy_ns), duration(thread.waiting_ns))
        table.add_row(f"{k}", f"{thread.runs}", f"{thread.waits}", *times)
    yield table


def _compile_time(e: Report) -> RenderableType:
    return Text(_compile_line(e))


# ---- lines that the summary shares


def _time_line(e: Report) -> str:
    rate = e.flops / e.measured_ns if e.measured_ns else 0.0
    ratio = f"ratio {e.measured_ns / e.predicted_ns:.2f}" if e.predicted_ns else "no work"
    return f"{duration(e.measured_ns)} measured, roofline {duration(e.predicted_ns)}, {ratio}; {rate:.1f} GFLOP/s"


def _thread_line(e: Report) -> str:
    s = e.schedule
    waits = sum(thread.waits for thread in s.threads)
    idle = f"; {s.idle} not used: too little work to share" if s.idle else ""
    return (
        f"{len(s.threads)} at work {s.used:.0%} of the time, balance {s.balance:.2f}, "
        f"{waits} wait{'' if waits == 1 else 's'}{idle}"
    )


def _fusion_line(e: Report) -> str:
    joined = sum(decision.count for decision in e.decisions if decision.fused)
    reasons: dict[str, int] = {}
    for decision in e.refusals:
        reasons[decision.reason] = reasons.get(decision.reason, 0) + decision.count
    text = f"{joined} joined, {sum(reasons.values())} refused"
    if reasons:
        reason = max(reasons, key=lambda reason: reasons[reason])
        text += f" ({reasons[reason]}: {reason})"
    return text


def _memory_line(e: Report) -> str:
    m = e.memory
    over = f" ({m.lower_bound / m.peak:.0%} of it needed at once)" if m.peak else ""
    scratch = f", scratch {count(m.scratch)}B a thread" if m.scratch else ""
    return (
        f"temporaries {count(m.peak)}B{over}, state {count(m.state)}B, arguments {count(m.arguments)}B, "
        f"results {count(m.results)}B{scratch}"
    )


def _compile_line(e: Report) -> str:
    total = sum(e.compile_seconds.values())
    stages = ", ".join(f"{name} {seconds:.3f}" for name, seconds in e.compile_seconds.items())
    counts = ", ".join(f"{number} {word}" for word, number in e.compiled.items() if number)
    return f"{total:.2f} s: {stages}; kernels: {counts or 'none'}"


# ---- figures


def count(number: float) -> str:
    """Return a number with a unit prefix, for a unit to follow.

    >>> count(950), count(1234), count(2.5e9)
    ('950 ', '1.23 k', '2.50 G')
    """
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}" if number >= 10 * size else f"{number / size:.2f} {prefix}"
    return f"{number:.0f} "


def duration(nanoseconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(850), duration(12_345), duration(2.5e9)
    ('850 ns', '12.3 us', '2.50 s')
    """
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            value = nanoseconds / size
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{nanoseconds:.0f} ns"


def _some(items: Iterable[str], most: int) -> str:
    listed = list(items)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (" ".join(listed[:most]) or "nothing") + rest
