"""How kernels run: loops, lanes, tiles, packing; decided from the problem and the CPU's description.

Open `loops.py` first (most kernels), then `product.py` and `matmul.py`.
"""

from .attention import AttentionSchedule, attention_problem, schedule_attention
from .conv import ConvSchedule, FusedConvSchedule, schedule_conv, schedule_fused_conv
from .conv_grad import WeightGradSchedule, schedule_weight_grad
from .conv_planes import FusedPlanesSchedule, schedule_fused_planes
from .cumulative import CumulativeSchedule, schedule_cumulative
from .loop_kernel import LoopSchedule
from .loops import schedule_loops
from .matmul import DotSchedule, MatmulProblem, MatmulSchedule, Matrix, TileSchedule, schedule_matmul
from .product import Following, ProductSchedule, product_of, schedule_product, strided_view
from .scatter import schedule_scatter
from .scatter_along import schedule_scatter_along
from .sort import SortSchedule, schedule_sort
from .turned import TurnedSchedule, schedule_turned

__all__ = [
    "AttentionSchedule",
    "ConvSchedule",
    "CumulativeSchedule",
    "DotSchedule",
    "Following",
    "FusedConvSchedule",
    "FusedPlanesSchedule",
    "LoopSchedule",
    "MatmulProblem",
    "MatmulSchedule",
    "Matrix",
    "ProductSchedule",
    "SortSchedule",
    "TileSchedule",
    "TurnedSchedule",
    "WeightGradSchedule",
    "attention_problem",
    "product_of",
    "schedule_attention",
    "schedule_conv",
    "schedule_cumulative",
    "schedule_fused_conv",
    "schedule_fused_planes",
    "schedule_loops",
    "schedule_matmul",
    "schedule_product",
    "schedule_scatter",
    "schedule_scatter_along",
    "schedule_sort",
    "schedule_turned",
    "schedule_weight_grad",
    "strided_view",
]
