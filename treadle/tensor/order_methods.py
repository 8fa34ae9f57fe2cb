"""Methods of tensors that are functions of the namespace as they are: order, running folds, computed places, ..."""

from __future__ import annotations

from . import (
    arithmetic,
    arranging,
    counting,
    cumulative,
    distance,
    elementwise,
    joining,
    manipulation,
    norms,
    products,
    reductions,
    replacing,
    scattering,
    searching,
    sets,
    sorting,
    special,
    statistics,
)
from .value import Value


class OrderMethods(Value):
    """What orders, counts, gathers and rearranges a tensor, or a cell as the tensor it holds."""

    __slots__ = ()

    # --- elementwise ---

    exp2 = elementwise.exp2
    expm1 = elementwise.expm1
    log2 = elementwise.log2
    log10 = elementwise.log10
    tan = elementwise.tan
    asin = elementwise.asin
    acos = elementwise.acos
    atan = elementwise.atan
    atan2 = elementwise.atan2
    sinh = elementwise.sinh
    cosh = elementwise.cosh
    asinh = elementwise.asinh
    acosh = elementwise.acosh
    atanh = elementwise.atanh
    hypot = elementwise.hypot
    logaddexp = elementwise.logaddexp
    copysign = elementwise.copysign
    remainder = elementwise.remainder
    signbit = elementwise.signbit
    logical_and = elementwise.logical_and
    logical_or = elementwise.logical_or
    logical_xor = elementwise.logical_xor
    logical_not = elementwise.logical_not
    lerp = arithmetic.lerp
    addcmul = arithmetic.addcmul
    addcdiv = arithmetic.addcdiv
    fmod = arithmetic.fmod
    frac = arithmetic.frac
    fmax = arithmetic.fmax
    fmin = arithmetic.fmin
    gcd = arithmetic.gcd
    lcm = arithmetic.lcm
    nan_to_num = arithmetic.nan_to_num
    isclose = arithmetic.isclose
    allclose = arithmetic.allclose
    deg2rad = arithmetic.deg2rad
    rad2deg = arithmetic.rad2deg
    erfc = special.erfc
    erfinv = special.erfinv
    lgamma = special.lgamma
    digamma = special.digamma
    sinc = special.sinc
    logit = special.logit
    xlogy = special.xlogy

    # --- products ---

    addmm = products.addmm
    addmv = products.addmv
    baddbmm = products.baddbmm
    inner = products.inner
    kron = products.kron

    # --- statistics ---

    aminmax = statistics.aminmax
    nansum = statistics.nansum
    nanmean = statistics.nanmean
    cov = statistics.cov
    corrcoef = statistics.corrcoef
    renorm = norms.renorm
    dist = distance.dist

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
    msort = sorting.msort

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
    index_reduce = scattering.index_reduce
    index_put = replacing.index_put
    put = replacing.put
    select = replacing.select
    narrow = replacing.narrow
    select_scatter = replacing.select_scatter
    slice_scatter = replacing.slice_scatter
    diagonal_scatter = replacing.diagonal_scatter
    masked_fill = scattering.masked_fill
    masked_select = scattering.masked_select
    masked_scatter = scattering.masked_scatter

    # --- arranging ---

    roll = manipulation.roll
    moveaxis = manipulation.moveaxis
    ravel = joining.ravel
    tensor_split = joining.tensor_split
    hsplit = joining.hsplit
    vsplit = joining.vsplit
    dsplit = joining.dsplit
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
