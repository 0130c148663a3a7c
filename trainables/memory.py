"""A trial's memory on its GPU: how much of it the trial took, and that there was too little.

The driver names what is here, so importing this needs no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainables.checks import one_line

if TYPE_CHECKING:
    import torch

#: What a process takes before its first tensor: CUDA's context and the libraries' kernels. PyTorch does not count it.
CONTEXT_BYTES = 512 * 2**20
#: How CUDA and its libraries say it where PyTorch has no error of its own for it.
OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class GpuMemoryError(Exception):
    """A trial needed more memory than its GPU had left."""


def forget_peak(device: torch.device) -> None:
    """Begin to measure: what trials before this one took, and PyTorch keeps in reserve, is not this one's."""
    import torch  # noqa: PLC0415

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def gpu_memory(device: torch.device) -> dict[str, int]:
    """Bytes: ``gpu_peak_bytes``, the most that this process has taken, and ``gpu_total_bytes``, all that there are.

    Empty on any other device.
    """
    import torch  # noqa: PLC0415

    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES
    return {"gpu_peak_bytes": peak, "gpu_total_bytes": torch.cuda.get_device_properties(device).total_memory}


@contextlib.contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Whatever says that a GPU is out of memory is raised by one name.

    Raises:
        GpuMemoryError: In place of such an error.
    """
    try:
        yield
    except Exception as error:
        if any(map(_says_out_of_memory, _causes(error))):
            raise GpuMemoryError(one_line(error)) from error
        raise


def _says_out_of_memory(error: BaseException) -> bool:
    import torch  # noqa: PLC0415

    said = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    return said or isinstance(error, torch.OutOfMemoryError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised for: where a part is tried before it is used, its error becomes another's."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
