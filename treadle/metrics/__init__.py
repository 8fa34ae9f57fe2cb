"""Metrics that add up over batches and shards: `update`, `merge`, `compute`. Open `metric.py` first."""

from .classification import F1, Accuracy, ConfusionMatrix, Precision, Recall
from .mean import Mean
from .metric import Metric
from .probability import CalibrationError, LogLoss, Perplexity
from .ranking import PRAUC, ROCAUC, AveragePrecision
from .regression import MAE, MSE, R2, RMSE, PoissonDeviance
from .text import BLEU, CER, WER, EditDistance, edit_distance

__all__ = [
    "BLEU",
    "CER",
    "F1",
    "MAE",
    "MSE",
    "PRAUC",
    "R2",
    "RMSE",
    "ROCAUC",
    "WER",
    "Accuracy",
    "AveragePrecision",
    "CalibrationError",
    "ConfusionMatrix",
    "EditDistance",
    "LogLoss",
    "Mean",
    "Metric",
    "Perplexity",
    "PoissonDeviance",
    "Precision",
    "Recall",
    "edit_distance",
]
