"""Training steps replayed from a CUDA graph, where launching kernels one by one would take longer than running them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Steps before a CUDA graph is captured, in which libraries choose their kernels and optimizers make their moments.
_WARM_UP_STEPS = 3

#: From indices and labels, each ``(R, batch)``, to the logits ``(R, batch, num_classes)`` and losses ``(R, batch)``
#: that the step was made on; the weights move.
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class GraphedStep:
    """A step that is replayed from a CUDA graph on minibatches of one shape, and taken as it is on any other.

    Args:
        step: Depends on its arguments and on what lies in the GPU's memory alone.
        shape: Of its arguments.
        device: A CUDA device.
    """

    def __init__(self, step: Step, shape: tuple[int, int], device: torch.device) -> None:
        self._step = step
        self._shape = shape
        self._device = device
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Take the step; what it returns is overwritten by the next."""
        if indices.shape != self._shape:
            return self._step(indices, labels)
        if self._taken < _WARM_UP_STEPS:
            self._taken += 1
            return self._warm_up(indices, labels)
        if self._graph is None:
            self._capture(indices, labels)
        for buffer, values in zip(self._buffers, (indices, labels), strict=True):
            buffer.copy_(values)
        self._graph.replay()  # type: ignore[union-attr]
        return self._outputs

    def _warm_up(self, indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As PyTorch has it, on another stream, so that nothing of it is part of the graph."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            outputs = self._step(indices, labels)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return outputs

    def _capture(self, indices: Tensor, labels: Tensor) -> None:
        self._buffers = indices.clone(), labels.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._step(*self._buffers)
