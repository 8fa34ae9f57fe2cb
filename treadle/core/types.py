"""What is known of a value before it exists: its dtype and static shape."""

import math
from dataclasses import dataclass
from functools import cached_property

from .dtypes import DType

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Type:
    """The dtype and shape of one tensor; prints as `f32[2,3]`."""

    dtype: DType
    shape: Shape = ()

    @cached_property
    def _hash(self) -> int:
        return hash((self.dtype, self.shape))

    def __hash__(self) -> int:
        return self._hash

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, stored densely."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.dtype.short}[{','.join(map(str, self.shape))}]"
