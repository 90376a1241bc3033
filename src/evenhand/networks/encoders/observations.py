"""What an encoder reads of a series: values, whether they were observed, and since when."""

from __future__ import annotations

import torch
from torch import Tensor


def hold_last(series: Tensor) -> Tensor:
    """Return what an encoder reads of standardised series ``(B, C, T)``, as ``(B, 2C, T)``.

    First the values: where nothing was observed (NaN), the last value that was, and 0, the
    training mean, before the first one. Then, for each of them, 1 where it was observed, else 0.
    """
    missing = series.isnan()
    held = [torch.zeros_like(series[:, :, 0])]
    for now, absent in zip(series.unbind(2), missing.unbind(2), strict=True):
        held.append(torch.where(absent, held[-1], now))
    return torch.cat([torch.stack(held[1:], dim=2), (~missing).to(series.dtype)], dim=1)


def steps_since_seen(observed: Tensor) -> Tensor:
    """Return for how many steps each variable was not seen, at each step.

    Parameters
    ----------
    observed
        ``(B, C, T)``, 1 where a value was observed, else 0.

    Returns
    -------
    Tensor
        ``(B, C, T)``: 0 where a value was observed, else steps since the last one that was; before
        the first one, steps since the series began, its first step counted.

    Examples
    --------
    >>> steps_since_seen(torch.tensor([[[0.0, 1.0, 0.0, 0.0, 1.0]]])).tolist()
    [[[1.0, 0.0, 1.0, 2.0, 0.0]]]
    """
    since = [torch.zeros_like(observed[:, :, 0])]
    for seen in observed.unbind(2):  # torch.cummax would do it at once, and ONNX lacks it
        since.append((since[-1] + 1) * (1 - seen))
    return torch.stack(since[1:], dim=2)
