"""The training loop and what it leaves behind: config, checkpoint, metrics, pictures. Open `trainer.py` first."""

from . import gpt
from .checkpoint import Checkpoint
from .config import TrainConfig
from .finite import first_not_finite
from .progress import Progress, Status
from .run import Run
from .targets import Binary, Count, Multiclass, Multilabel, Ordinal, Regression, task_of
from .task import Task, TaskMetrics
from .trainer import Outcome, Plan, Source, Trainer

__all__ = [
    "Binary",
    "Checkpoint",
    "Count",
    "Multiclass",
    "Multilabel",
    "Ordinal",
    "Outcome",
    "Plan",
    "Progress",
    "Regression",
    "Run",
    "Source",
    "Status",
    "Task",
    "TaskMetrics",
    "TrainConfig",
    "Trainer",
    "first_not_finite",
    "gpt",
    "task_of",
]
