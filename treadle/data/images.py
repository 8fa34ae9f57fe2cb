"""Sets of labelled images: Fashion-MNIST, MNIST, the digits of scikit-learn, and pictures in folders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError

from .download import files
from .idx import read_idx
from .loader import ArrayDataset

Array = np.ndarray[Any, Any]
SPLITS = {"train": "train", "test": "t10k"}

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_URLS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
FASHION_DIGESTS = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
MNIST_URLS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
MNIST_DIGESTS = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}


class LabelledImages(ArrayDataset):
    """Images [N, C, H, W] of float32 in 0..1 with class numbers [N] of int64, and the names of the classes."""

    def __init__(self, images: Array, labels: Array, classes: Sequence[str]) -> None:
        super().__init__(images, labels)
        self.classes = tuple(classes)

    @property
    def images(self) -> Array:
        """All images, [N, C, H, W]."""
        return self.arrays[0]

    @property
    def labels(self) -> Array:
        """All class numbers, [N]."""
        return self.arrays[1]


def fashion_mnist(split: str = "train", *, root: str | Path | None = None, download: bool = True) -> LabelledImages:
    """Return 60 000 (test: 10 000) grey pictures of clothes, [N, 1, 28, 28], in 10 classes (Xiao et al. 2017).

    Found in `root`, where Debian's package dataset-fashion-mnist puts them, or in the cache folder; else downloaded.

    Raises:
        ConfigError: another split than "train" or "test".
        DataError: the files are nowhere, or damaged.
    """
    installed = Path("/usr/share/datasets/fashion-mnist")
    chosen = _of_split("fashion_mnist", split, FASHION_DIGESTS)
    found = files(
        "fashion-mnist",
        chosen,
        root=root,
        urls=FASHION_URLS,
        elsewhere=(installed,),
        package="dataset-fashion-mnist",
        download=download,
    )
    return _from_idx(found, FASHION)


def mnist(split: str = "train", *, root: str | Path | None = None, download: bool = True) -> LabelledImages:
    """Return 60 000 (test: 10 000) handwritten digits, [N, 1, 28, 28] (LeCun et al. 1998); as `fashion_mnist`."""
    chosen = _of_split("mnist", split, MNIST_DIGESTS)
    found = files("mnist", chosen, root=root, urls=MNIST_URLS, download=download)
    return _from_idx(found, [str(digit) for digit in range(10)])


def digits() -> LabelledImages:
    """Return the 1797 handwritten digits of scikit-learn, [N, 1, 8, 8], which come with its package."""
    try:
        raw: Any = import_module("sklearn.datasets").load_digits()  # only who asks for the digits needs the package
    except ImportError:
        raise DataError("digits: they come with scikit-learn. Install it: pip install 'treadle[data]'.") from None
    images = (raw.images / 16).astype(np.float32)[:, None]
    return LabelledImages(images, raw.target.astype(np.int64), [str(digit) for digit in range(10)])


class ImageFolder:
    """Pictures in one folder per class, `root/class/picture.png`, as (image [C, H, W] in 0..1, class number).

    A picture is read when it is asked for. Needs Pillow: pip install 'treadle[data]'.

    Args:
        root: the folder of the classes; classes and pictures are numbered in alphabetical order.
        size: (height, width) every picture is resized to; None keeps each its own.
        channels: 3 for colours, 1 for grey.
    """

    SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

    def __init__(self, root: str | Path, *, size: tuple[int, int] | None = None, channels: int = 3) -> None:
        if channels not in (1, 3):
            raise ConfigError(f"ImageFolder: channels is {channels}. Allowed: 1 for grey, 3 for colours.")
        folder = Path(root)
        names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        self.size, self.channels, self.classes = size, channels, tuple(names)
        self.examples = [
            (path, number)
            for number, name in enumerate(names)
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in self.SUFFIXES
        ]
        if not self.examples:
            raise DataError(
                f"ImageFolder: no pictures in {folder}. It needs a folder for each class, with files of "
                f"{', '.join(self.SUFFIXES)} in it."
            )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Array, int]:
        path, label = self.examples[index]
        return read_image(path, size=self.size, channels=self.channels), label


def read_image(path: str | Path, *, size: tuple[int, int] | None = None, channels: int = 3) -> Array:
    """Return a picture as [channels, H, W] of float32 in 0..1, resized to `size` (height, width) if given."""
    try:
        image = import_module("PIL.Image")  # only who reads pictures needs the package
    except ImportError:
        raise DataError("read_image: pictures are read by Pillow. Install it: pip install 'treadle[data]'.") from None
    try:
        with image.open(path) as opened:
            picture: Any = opened.convert("RGB" if channels == 3 else "L")
    except OSError as error:
        raise DataError(f"read_image: {path} cannot be read as a picture: {error}.") from None
    if size is not None:
        picture = picture.resize((size[1], size[0]), image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float32) / 255
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def _of_split(what: str, split: str, digests: dict[str, str]) -> dict[str, str]:
    if split not in SPLITS:
        raise ConfigError(f"{what}: split is {split!r}. Allowed: {', '.join(SPLITS)}.")
    return {name: value for name, value in digests.items() if name.startswith(SPLITS[split])}


def _from_idx(found: dict[str, Path], classes: Sequence[str]) -> LabelledImages:
    pixels, labels = (read_idx(path) for path in found.values())
    return LabelledImages((pixels / np.float32(255))[:, None], labels.astype(np.int64), classes)
