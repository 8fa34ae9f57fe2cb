"""Batches from text and arrays as pure functions of (seed, step): a run resumes from its step. Open `text.py` first."""

from . import transforms
from .idx import read_idx
from .images import ImageFolder, LabelledImages, digits, fashion_mnist, mnist, read_image
from .loader import ArrayDataset, DataLoader, Dataset, Subset, collate, random_split
from .random import permutation, positions
from .table import Features, Table, read_table
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
    "Features",
    "ImageFolder",
    "LabelledImages",
    "Subset",
    "Table",
    "Vocabulary",
    "Windows",
    "collate",
    "digits",
    "fashion_mnist",
    "mnist",
    "permutation",
    "positions",
    "random_split",
    "read_idx",
    "read_image",
    "read_table",
    "read_text",
    "standard_library",
    "transforms",
    "vocabulary_from",
]
