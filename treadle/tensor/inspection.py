"""What the array API's inspection functions say of the namespace: `td.__array_namespace_info__()`."""

from __future__ import annotations

from treadle.core import DTYPES, DType, float32, int64

from .creation import check_device
from .data_types import isdtype


class NamespaceInfo:
    """What the array API's inspection functions say of this namespace."""

    def capabilities(self) -> dict[str, object]:
        """Return what is supported. Shapes may depend on values outside of compiled functions."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> str:
        """Return the device of new tensors."""
        return "cpu"

    def devices(self) -> list[str]:
        """Return all devices."""
        return ["cpu"]

    def default_dtypes(self, *, device: object | None = None) -> dict[str, DType]:
        """Return the dtypes that Python numbers become; there is no complex one."""
        check_device("default_dtypes", device)
        return {"real floating": float32, "integral": int64, "indexing": int64}

    def dtypes(self, *, device: object | None = None, kind: object | None = None) -> dict[str, DType]:
        """Return the standard's dtypes of a kind by name; the 16-bit floats are not among them."""
        check_device("dtypes", device)
        standard = [d for d in DTYPES if not (d.is_float and d.bits == 16)]
        return {d.name: d for d in standard if kind is None or isdtype(d, kind)}


def array_namespace_info() -> NamespaceInfo:
    """Return what the array API's inspection functions say of this namespace."""
    return NamespaceInfo()
