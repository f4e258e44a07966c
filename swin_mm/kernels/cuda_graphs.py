"""Records a backbone as CUDA graphs.

At batch 1 a GPU runs kernels faster than Python starts them; a graph starts all of them at once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Maps = tuple[Tensor, ...]


class Recording:
    """A forward pass as a CUDA graph: takes an image of the shape that was recorded and gives its maps.

    ``pool``: the ``pool`` of another recording, whose memory is to be shared; None for memory of its own. Recordings
    share only what none of them needs after it ran, so they may run in any order, on one stream.
    """

    def __init__(self, forward: Callable[[Tensor], Maps], image: Tensor, pool: Any):
        if not image.is_cuda:
            raise ValueError(f'image must be on a CUDA device to record a graph, got {image.device}: call the backbone')
        kind = image.device.type
        # Weights in the dtype of autocast are made in the graph: those in its cache are gone when autocast ends.
        autocast = torch.autocast(
            kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False
        )
        # Inference mode would forbid to write to what is made in it, once it has ended.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(image.device), autocast:
            self._image = image.clone()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # libraries set themselves up in the first calls, which cannot be recorded
                    forward(self._image)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool):
                self._maps = forward(self._image)
        self.pool = self._graph.pool()

    def __call__(self, image: Tensor) -> Maps:
        self._image.copy_(image)
        self._graph.replay()
        return tuple(x.clone() for x in self._maps)  # the next call overwrites them


class CUDAGraphs:
    """Runs ``backbone`` by a CUDA graph for each shape, dtype and state of autocast of the image. For inference.

    The first image of a kind is slow, because its graph is recorded. The ``limit`` graphs used last are kept. Weights
    may change in place. If they move (``.to()``, ``load_state_dict(assign=True)``), graphs are recorded anew. Hooks
    inside the backbone and settings such as TF32 stay as they were at the recording.

    Raises RuntimeError with gradients on or in training mode, ValueError for images that are not on a CUDA device.
    ``record`` makes a graph, see `Recording`.

    >>> detector.backbone.forward = CUDAGraphs(detector.backbone)  # in a whole model
    """

    def __init__(self, backbone: nn.Module, limit: int = 8, record: Callable[..., Recording] = Recording):
        if limit < 1:
            raise ValueError(f'limit must be at least 1 graph, got limit={limit}')
        self.backbone, self.limit = backbone, limit
        self._forward, self._record = backbone.forward, record  # the method, which may be replaced by this object
        self._recordings: dict[tuple, Recording] = {}  # used last comes last
        self._held: list[tuple[dict, str, nn.Module | Tensor | None]] = []
        self._weights: list[tuple[int, torch.dtype]] = []

    def __call__(self, image: Tensor) -> Maps:
        """Maps of ``image`` ``(B, in_channels, height, width)``; they are the caller's to keep."""
        if torch.is_grad_enabled():
            raise RuntimeError('CUDA graphs have no gradient: call them under torch.no_grad() or inference_mode()')
        if self.backbone.training:
            raise RuntimeError('CUDA graphs are for inference, and the backbone is in training mode: call .eval()')
        self._forget_moved()
        key = (image.device, image.dtype, tuple(image.shape), _autocast(image.device.type))
        recording = self._recordings.pop(key, None)
        if recording is None:
            pool = next((r.pool for r in self._recordings.values()), None)
            recording = self._record(self._forward, image, pool)
        self._recordings[key] = recording
        if len(self._recordings) > self.limit:
            del self._recordings[next(iter(self._recordings))]
        return recording(image)

    def _forget_moved(self) -> None:
        """Drops all graphs if weights are no longer where the graphs read them.

        It runs before every image. To walk through all modules takes longer than a graph, so the dicts that hold the
        weights are listed once.
        """
        if not self._held or any(holder.get(name) is not x for holder, name, x in self._held):
            self._recordings.clear()
            holders = (h for m in self.backbone.modules() for h in (m._modules, m._parameters, m._buffers))
            self._held = [(holder, name, x) for holder in holders for name, x in holder.items()]
        weights = [(x.data_ptr(), x.dtype) for _, _, x in self._held if isinstance(x, Tensor)]
        if weights != self._weights:
            self._recordings.clear()
            self._weights = weights


def _autocast(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
