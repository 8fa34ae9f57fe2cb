"""From schedules to machine code through LLVM. Open `llvm.py` first (the text builder), then `loops.py`."""

from .attention import emit_attention
from .cache import object_code
from .conv import emit_conv
from .conv_grad import emit_conv_grad
from .conv_planes import emit_conv_planes
from .cumulative import emit_cumulative
from .loops import emit_nest, scratch_nbytes
from .matmul import emit_matmul
from .product import emit_product
from .sort import emit_sort
from .target import Target, host
from .toolchain import Library, compile_object, load
from .turned import emit_turned

__all__ = [
    "Library",
    "Target",
    "compile_object",
    "emit_attention",
    "emit_conv",
    "emit_conv_grad",
    "emit_conv_planes",
    "emit_cumulative",
    "emit_matmul",
    "emit_nest",
    "emit_product",
    "emit_sort",
    "emit_turned",
    "host",
    "load",
    "object_code",
    "scratch_nbytes",
]
