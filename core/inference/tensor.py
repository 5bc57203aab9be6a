"""What a model takes and gives: a tensor's name, element type and shape, as its owner wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Element types by ONNX's numbers, under the names numpy and people use.
ELEMENTS: Final[dict[int, str]] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}


@dataclass(frozen=True, slots=True)
class TensorType:
    """One input or output.

    ``element`` is a name of `ELEMENTS`, or for an output that is no tensor what it is instead ("sequence", "map"). In
    ``shape`` -1 is a free dimension; the first dimension counts rows. ``width`` is how many columns a row has: the
    product of the other dimensions, or, where one of them is free, as many as the model's description binds.
    """

    name: str
    element: str
    shape: tuple[int, ...]
    width: int = 1

    def __str__(self) -> str:
        if self.element not in ELEMENTS.values():
            return self.element
        return f"{self.element}[{', '.join('?' if size < 0 else str(size) for size in self.shape)}]"
