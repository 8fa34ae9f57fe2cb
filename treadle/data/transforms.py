"""Changes to batches of images [N, C, H, W]: each a function of the batch and a random generator.

A loader calls its transform with a generator that depends on seed, epoch and batch alone, so a resumed run sees the
same pictures. NumPy on the host: this is data preparation, in the loader's background thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from treadle.core import ConfigError, ShapeError

Array = np.ndarray[Any, Any]
Transform = Callable[[Any, np.random.Generator], Any]


class Compose:
    """Several transforms, one after the other."""

    def __init__(self, *transforms: Transform) -> None:
        self.transforms = transforms

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        for transform in self.transforms:
            batch = transform(batch, rng)
        return batch


class OnImages:
    """A transform of the first part of a batch (images, labels, ...); the others stay."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        return (self.transform(batch[0], rng), *batch[1:])


class Normalize:
    """(x - mean) / std for each channel."""

    def __init__(self, mean: Sequence[float] | float, std: Sequence[float] | float) -> None:
        self.mean, self.std = (np.atleast_1d(np.asarray(v, np.float32)) for v in (mean, std))
        if (self.std <= 0).any():
            raise ConfigError(f"Normalize: std is {self.std.tolist()}. It must be above 0.")

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        _check_images("Normalize", images)
        for values in (self.mean, self.std):
            if values.size not in (1, images.shape[1]):
                raise ShapeError(f"Normalize: {values.size} numbers for {images.shape[1]} channels. Give one for each.")
        return ((images - self.mean[:, None, None]) / self.std[:, None, None]).astype(images.dtype)


class RandomHorizontalFlip:
    """Mirrors each image with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ConfigError(f"RandomHorizontalFlip: p is {p}. It is a probability: 0 to 1.")
        self.p = p

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        _check_images("RandomHorizontalFlip", images)
        turn = rng.random(len(images)) < self.p
        return np.where(turn[:, None, None, None], images[..., ::-1], images)


class Pad:
    """Adds `width` rows and columns of `value` on every side."""

    def __init__(self, width: int, value: float = 0.0) -> None:
        if width < 0:
            raise ConfigError(f"Pad: width is {width}. It must be at least 0.")
        self.width, self.value = width, value

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        _check_images("Pad", images)
        sides = (self.width, self.width)
        return np.pad(images, ((0, 0), (0, 0), sides, sides), constant_values=self.value)


class RandomCrop:
    """Cuts a part of `size` (height, width) at a random place out of each image, padded before if asked."""

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        self.size = (size, size) if isinstance(size, int) else size
        self.pad = Pad(padding)

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        images = self.pad(images, rng)
        (h, w), (height, width) = self.size, images.shape[2:]
        if h > height or w > width or min(h, w) < 1:
            raise ShapeError(f"RandomCrop: {h} x {w} cannot be cut out of {height} x {width}. Use padding.")
        top, left = rng.integers(0, height - h + 1, len(images)), rng.integers(0, width - w + 1, len(images))
        rows, columns = top[:, None] + np.arange(h), left[:, None] + np.arange(w)
        n = np.arange(len(images))
        return images[n[:, None, None], :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)


class CenterCrop:
    """Cuts the middle part of `size` (height, width) out of each image."""

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = (size, size) if isinstance(size, int) else size

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        _check_images("CenterCrop", images)
        (h, w), (height, width) = self.size, images.shape[2:]
        if h > height or w > width or min(h, w) < 1:
            raise ShapeError(f"CenterCrop: {h} x {w} cannot be cut out of {height} x {width}.")
        top, left = (height - h) // 2, (width - w) // 2
        return images[:, :, top : top + h, left : left + w]


class GaussianNoise:
    """Adds normal noise of deviation `std`, for denoising."""

    def __init__(self, std: float) -> None:
        if std < 0:
            raise ConfigError(f"GaussianNoise: std is {std}. It must be at least 0.")
        self.std = std

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        noise = np.zeros(images.shape, np.float32)
        rng.standard_normal(dtype=np.float32, out=noise)
        return images + (noise * self.std).astype(images.dtype)


def _check_images(what: str, images: Array) -> None:
    if images.ndim != 4:
        raise ShapeError(f"{what}: a batch of shape {list(images.shape)} is not [N, C, H, W]. Add the missing axes.")
