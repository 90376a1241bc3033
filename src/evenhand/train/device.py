"""Where training runs, and with which precision."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from torch.cuda import is_available

from evenhand.errors import EvenhandError
from evenhand.train.settings import LoopSettings


def make_accelerator(settings: LoopSettings) -> Accelerator:
    """Return the accelerator that the settings ask for: CUDA or the CPU.

    Raises
    ------
    EvenhandError
        CUDA was asked for and there is none.
    """
    if settings.device == "cuda" and not is_available():
        raise EvenhandError(
            "--device cuda: torch sees no CUDA device here. Give --device cpu, or install a CUDA "
            "build of torch."
        )
    # Without CUDA accelerate would take other devices, such as Apple's, which lack float64.
    on_cpu = settings.device == "cpu" or not is_available()
    precision = {"fp32": "no", "bf16": "bf16"}[settings.precision]
    if _differs(on_cpu, precision):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    # A schedule may freeze in one epoch what it tunes in another.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[parallel])


def _differs(on_cpu: bool, precision: str) -> bool:
    """Whether this process holds accelerate's state of other settings, which it refuses to change.

    A launcher's processes all have one setting, so their process group is never dropped.
    """
    if not AcceleratorState._shared_state:
        return False
    state = AcceleratorState()
    return bool(PartialState().num_processes == 1) and bool(
        state.mixed_precision != precision or (state.device.type == "cpu") != on_cpu
    )
