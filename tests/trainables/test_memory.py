"""What a trial takes of its GPU is asked of PyTorch, and too little memory has one name whoever says so."""

import pytest
import torch

from trainables import memory
from trainables.config import InputError
from trainables.memory import CONTEXT_BYTES, GpuMemoryError, gpu_memory, out_of_memory_told


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore advice."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_too_little_memory_is_told_by_one_name(error):
    with pytest.raises(GpuMemoryError) as told, out_of_memory_told():
        raise error
    assert told.value.__cause__ is error
    assert "\n" not in str(told.value)


def test_too_little_memory_while_a_part_is_tried_is_told_too():
    def try_part():
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        except RuntimeError as error:
            raise InputError("The loss fails: CUDA out of memory.") from error

    with pytest.raises(GpuMemoryError, match="The loss fails"), out_of_memory_told():
        try_part()


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert"), ValueError("CUDA error: out of memory")]
)
def test_any_other_error_stays_what_it_is(error):
    with pytest.raises(type(error)) as told, out_of_memory_told():
        raise error
    assert told.value is error


def test_a_processor_has_no_memory_of_its_own_to_report():
    memory.forget_peak(torch.device("cpu"))
    assert gpu_memory(torch.device("cpu")) == {}


def test_the_peak_is_what_pytorch_reserved_and_the_context(monkeypatch):
    class Properties:
        total_memory = 16_000

    asked = []
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 1_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append("reset"))
    device = torch.device("cuda")
    memory.forget_peak(device)
    assert asked == ["empty", "reset"]
    assert gpu_memory(device) == {"gpu_peak_bytes": 1_000 + CONTEXT_BYTES, "gpu_total_bytes": 16_000}
