"""Methods of tensors that are functions of the namespace as they are: order, running folds, computed places."""

from __future__ import annotations

from . import arranging, counting, cumulative, manipulation, reductions, scattering, searching, sets, sorting
from .value import Value


class OrderMethods(Value):
    """What orders, counts, gathers and rearranges a tensor, or a cell as the tensor it holds."""

    __slots__ = ()

    # --- running folds ---

    cumsum = cumulative.cumsum
    cumprod = cumulative.cumprod
    cummax = cumulative.cummax
    cummin = cumulative.cummin
    logcumsumexp = cumulative.logcumsumexp
    diff = cumulative.diff

    # --- order ---

    sort = sorting.sort
    argsort = sorting.argsort
    topk = sorting.topk
    kthvalue = sorting.kthvalue
    median = sorting.median
    nanmedian = sorting.nanmedian
    quantile = sorting.quantile
    nanquantile = sorting.nanquantile
    mode = sorting.mode
    searchsorted = sorting.searchsorted

    # --- sets and counts ---

    unique = sets.unique
    unique_consecutive = sets.unique_consecutive
    nonzero = searching.nonzero
    argwhere = counting.argwhere
    count_nonzero = reductions.count_nonzero
    bincount = counting.bincount
    histc = counting.histc

    # --- computed places ---

    gather = scattering.gather
    scatter = scattering.scatter
    scatter_add = scattering.scatter_add
    scatter_reduce = scattering.scatter_reduce
    index_select = scattering.index_select
    index_add = scattering.index_add
    index_copy = scattering.index_copy
    index_fill = scattering.index_fill
    masked_fill = scattering.masked_fill
    masked_select = scattering.masked_select
    masked_scatter = scattering.masked_scatter

    # --- arranging ---

    roll = manipulation.roll
    tile = manipulation.tile
    rot90 = arranging.rot90
    fliplr = arranging.fliplr
    flipud = arranging.flipud
    diagonal = arranging.diagonal
    diag = arranging.diag
    diag_embed = arranging.diag_embed
    trace = arranging.trace
    repeat_interleave = arranging.repeat_interleave
    unfold = arranging.unfold
