"""Convert tensors, Series and lists to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import EvenhandError


def as_array(values: Any) -> NDArray[Any]:
    """Return a tensor, Series or sequence as an array; a missing value in a list stays missing.

    Raises
    ------
    EvenhandError
        If the values are masked or complex.
    """
    if np.ma.isMaskedArray(values):
        raise EvenhandError(
            "masked arrays are not taken, since their masks would be lost. Leave the masked rows "
            "out of all arrays."
        )
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise EvenhandError("complex numbers are not taken. Give real numbers, such as .real.")
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):
        return np.asarray(values, dtype="object")  # numpy would turn NaN beside text into "nan"
    return array
