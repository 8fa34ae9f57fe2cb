"""Look-alike audiences: users whose embedding is near those of seed users, by cosine similarity, in blocks."""

import datetime as dt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from treadle.core.errors import ConfigError, DataError, ShapeError
from treadle.experiment.audience import Audience
from treadle.experiment.hashing import as_units
from treadle.experiment.selection import highest

Method = Literal["centroid", "nearest"]


def look_alike(
    units: Any,
    embeddings: NDArray[Any],
    seeds: Audience,
    k: int,
    *,
    name: str,
    method: Method = "centroid",
    neighbours: int = 10,
    include_seeds: bool = False,
    model: str | None = None,
    as_of: dt.date | str | None = None,
) -> Audience:
    """The k users most like the seeds.

    Args:
        units: ids, one a row of `embeddings`.
        embeddings: float[n, d].
        seeds: the users to resemble; those without an embedding are counted in the manifest.
        k: how many.
        name: of the audience.
        method: "centroid", near the seeds' mean direction (seeds of one kind); "nearest", near some of the seeds
            (seeds of several kinds).
        neighbours: for "nearest": the mean over this many nearest seeds.
        include_seeds: whether seeds may be chosen.
        model: the hash of the model that made the embeddings.
        as_of: the last day whose data the embeddings know.

    Raises:
        ConfigError: k or neighbours too large, or an unknown method. DataError: no seed among the units, zero or non-
            finite embeddings.
    """
    ids = as_units(units)
    is_seed = seeds.mask(ids)
    if embeddings.ndim != 2 or len(embeddings) != len(ids):
        raise ShapeError(
            f"look_alike: embeddings of shape {embeddings.shape} for {len(ids):,} units; give one row a unit."
        )
    if not is_seed.any():
        raise DataError(
            f"look_alike: none of the {len(seeds):,} seeds is among the {len(ids):,} units; seeds need embeddings; are "
            "the ids of one kind?"
        )
    rows = np.arange(len(ids)) if include_seeds else np.flatnonzero(~is_seed)
    if not 1 <= k <= len(rows):
        raise ConfigError(
            f"look_alike: k is {k:,}; there are {len(rows):,} units to choose from; k lies between 1 and that."
        )
    scores = similarity(embeddings, is_seed, method=method, neighbours=neighbours)
    candidates = ids[rows]
    chosen, lowest = highest(candidates, scores[rows].astype(np.float64), k)
    picked = candidates[chosen]
    parameters = {
        "method": method,
        "k": k,
        "seeds": int(is_seed.sum()),
        "seeds_without_embedding": len(seeds) - int(is_seed.sum()),
    }
    if method == "nearest":
        parameters["neighbours"] = neighbours
    return Audience.of(
        picked,
        name=name,
        kind="look-alike",
        source=f"embeddings near {seeds}",
        as_of=as_of,
        model=model,
        threshold=lowest,
        parameters=parameters,
        parents=(str(seeds),),
    )


def similarity(
    embeddings: NDArray[Any],
    is_seed: NDArray[np.bool_],
    *,
    method: Method = "centroid",
    neighbours: int = 10,
    block: int = 4096,
) -> NDArray[np.float32]:
    """The similarity of every row to the seed rows: float32[n] in [-1, 1].

    "centroid": cosine to the mean of the seeds' unit vectors. "nearest": the mean cosine to the `neighbours` nearest
    seeds; a seed's own row counts for itself, so that seeds score high. Work and memory: n x d, or n x seeds x d in
    blocks of `block` rows.
    """
    seeds = _unit_rows(embeddings[is_seed], np.flatnonzero(is_seed))
    if method == "nearest" and not 1 <= neighbours <= len(seeds):
        raise ConfigError(
            f"look_alike: neighbours is {neighbours}; there are {len(seeds):,} seeds; it lies between 1 and that."
        )
    if method not in ("centroid", "nearest"):
        raise ConfigError(f"look_alike: there is no method {method!r}; use 'centroid' or 'nearest'.")
    mean = seeds.mean(axis=0)
    centroid = mean / max(float(np.linalg.norm(mean)), np.finfo(np.float32).tiny)
    out = np.empty(len(embeddings), np.float32)
    for at in range(0, len(embeddings), block):
        rows = _unit_rows(embeddings[at : at + block], np.arange(at, min(at + block, len(embeddings))))
        if method == "centroid":
            out[at : at + block] = rows @ centroid
        else:
            near = rows @ seeds.T
            near.partition(near.shape[1] - neighbours, axis=1)
            out[at : at + block] = near[:, -neighbours:].mean(axis=1)
    return out


def _unit_rows(rows: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.asarray(rows, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    wrong = numbers[~((lengths > 0) & np.isfinite(lengths))]
    if len(wrong):
        raise DataError(
            f"look_alike: {len(wrong):,} embeddings are zero or not finite, first in rows "
            f"{wrong[:5].tolist()}; they have no direction; leave "
            "these units out, and count them."
        )
    return values / lengths[:, None]
