"""Batches from text and arrays as pure functions of (seed, step): a run resumes from its step. Open `text.py` first."""

from .loader import ArrayDataset, DataLoader, Dataset, collate
from .random import permutation, positions
from .text import Corpus, read_text, standard_library
from .vocabulary import ByteVocabulary, CharVocabulary, Vocabulary, vocabulary_from
from .windows import Windows

__all__ = [
    "ArrayDataset",
    "ByteVocabulary",
    "CharVocabulary",
    "Corpus",
    "DataLoader",
    "Dataset",
    "Vocabulary",
    "Windows",
    "collate",
    "permutation",
    "positions",
    "read_text",
    "standard_library",
    "vocabulary_from",
]
