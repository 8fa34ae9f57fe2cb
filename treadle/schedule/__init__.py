"""How kernels run: loops, lanes, tiles, packing; decided from the problem and the CPU's description.

Open `loops.py` first (most kernels), then `product.py` and `matmul.py`.
"""

from .attention import AttentionSchedule, attention_problem, schedule_attention
from .loops import LoopSchedule, schedule_loops
from .matmul import DotSchedule, MatmulProblem, MatmulSchedule, Matrix, TileSchedule, schedule_matmul
from .product import ProductSchedule, product_of, schedule_product
from .scatter import schedule_scatter

__all__ = [
    "AttentionSchedule",
    "DotSchedule",
    "LoopSchedule",
    "MatmulProblem",
    "MatmulSchedule",
    "Matrix",
    "ProductSchedule",
    "TileSchedule",
    "attention_problem",
    "product_of",
    "schedule_attention",
    "schedule_loops",
    "schedule_matmul",
    "schedule_product",
    "schedule_scatter",
]
