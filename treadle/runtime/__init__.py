"""Runs plans: memory (`storage`, `arena`), the static schedule (`tasks`), threads (`pool`), time stamps (`profile`).

Open `program.py` first: it ties them together.
"""

from treadle.runtime.arena import Arena, Block, plan_arena
from treadle.runtime.machine import Machine, measure_machine, this_machine
from treadle.runtime.profile import KernelTime, Profile, TaskTime
from treadle.runtime.program import KernelCall, Program
from treadle.runtime.simulate import simulate_schedule
from treadle.runtime.storage import Allocator, MemoryUse, Storage, address_of, allocate, allocator, available_nbytes
from treadle.runtime.tasks import Run, Schedule, Span, Task, Wait, schedule_tasks
from treadle.runtime.verify import verify_schedule

__all__ = [
    "Allocator",
    "Arena",
    "Block",
    "KernelCall",
    "KernelTime",
    "Machine",
    "MemoryUse",
    "Profile",
    "Program",
    "Run",
    "Schedule",
    "Span",
    "Storage",
    "Task",
    "TaskTime",
    "Wait",
    "address_of",
    "allocate",
    "allocator",
    "available_nbytes",
    "measure_machine",
    "plan_arena",
    "schedule_tasks",
    "simulate_schedule",
    "this_machine",
    "verify_schedule",
]
