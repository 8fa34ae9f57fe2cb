"""The training loop and what it leaves behind: config, checkpoint, metrics, pictures. Open `trainer.py` first."""

from . import gpt
from .checkpoint import Checkpoint
from .config import TrainConfig
from .finite import first_not_finite
from .progress import Progress, Status
from .run import Run
from .trainer import Outcome, Plan, Source, Trainer

__all__ = [
    "Checkpoint",
    "Outcome",
    "Plan",
    "Progress",
    "Run",
    "Source",
    "Status",
    "TrainConfig",
    "Trainer",
    "first_not_finite",
    "gpt",
]
