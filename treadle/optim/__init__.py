"""Optimisers and schedulers named as in PyTorch, rates as functions of the step. Open `optimizer.py` first."""

from treadle.autodiff.clip import clip_grad_norm_, clip_grad_value_, get_total_norm

from . import lr_scheduler, swa_utils
from .adafactor import Adafactor
from .adagrad import Adadelta, Adagrad, RMSprop
from .adam import Adam, AdamState, AdamW, adam
from .adam_variants import Adamax, NAdam, RAdam
from .asgd import ASGD
from .layerwise import LAMB, LARS
from .lbfgs import LBFGS
from .muon import Muon
from .optimizer import Group, Optimizer
from .schedule import Schedule, chain, constant, cosine, linear, warmup
from .sgd import SGD, SGDState, sgd
from .signs import Lion, Rprop
from .swa_utils import EMA, AveragedModel

__all__ = [
    "ASGD",
    "EMA",
    "LAMB",
    "LARS",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamState",
    "AdamW",
    "Adamax",
    "AveragedModel",
    "Group",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGDState",
    "Schedule",
    "adam",
    "chain",
    "clip_grad_norm_",
    "clip_grad_value_",
    "constant",
    "cosine",
    "get_total_norm",
    "linear",
    "lr_scheduler",
    "sgd",
    "swa_utils",
    "warmup",
]
