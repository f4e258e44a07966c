"""Checks what the package does on this machine: its kernels, the backbone, a checkpoint, a worker process."""

import copy
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import REPORT_IT, AbsentError, Check, WrongError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

KERNELS = ('reference', 'sdpa', 'cpu', 'triton', 'padding')
# Limits of the error in values and in gradients, in units of the largest entry; as in tests/kernels/test_kernels.py.
LIMITS = {'float32': (1e-5, 1e-5), 'bfloat16': (2e-2, 5e-2)}
SMALL: dict[str, Any] = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), drop_path_rate=0.0)
WORKER_TIME = 60  # seconds


def checks() -> list[Check]:
    """Gives the checks that compute, save or start a process."""
    return [
        *(Check(f'kernel {name}', functools.partial(kernel, name)) for name in KERNELS),
        Check('backbone', backbone),
        Check('checkpoint', checkpoint),
        Check('worker', worker, 'num_workers=0 and persistent_workers=False in every dataloader'),
    ]


def kernel(name: str) -> str:
    """Gives the errors of a kernel on every device that it serves; raises WrongError if one is too large."""
    import torch

    from swin_mm.kernels.triton import launch

    refusal = f'it runs on {"CUDA" if name == "triton" else "the CPU"} only'
    results = []
    for device in _devices():
        if name == 'cpu' and device.type != 'cpu':
            continue
        for dtype, (value_limit, gradient_limit) in LIMITS.items():
            inputs = [x.to(device, getattr(torch, dtype)).requires_grad_() for x in _kernel_inputs()]
            if name == 'triton' and (error := launch.refusal(inputs[0])) is not None:
                refusal = str(error)
                continue
            value, gradient = _kernel_errors(name, inputs)
            results.append(
                f'{device} {dtype} {value:.0e} in value, {gradient:.0e} in gradients, '
                f'allowed {value_limit:g} and {gradient_limit:g}'
            )
            if not (value <= value_limit and gradient <= gradient_limit):  # a NaN is not below a limit either
                raise WrongError(f'its error is {results[-1]}', "backbone=dict(kernel='reference')")
    if not results:
        raise AbsentError(refusal)
    return 'error ' + '; '.join(results)


def backbone() -> str:
    """Gives the time of a small image through Swin-T; raises WrongError if its maps or gradients are wrong."""
    import torch

    from swin_mm import SwinTransformer
    from swin_mm.kernels import choosing

    torch.manual_seed(0)
    net = SwinTransformer('tiny', drop_path_rate=0.0).eval()
    image = torch.randn(1, 3, 224, 320)
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if hasattr(module, 'kernel'):
            module.kernel = 'reference'
    want = plain(image)  # by the reference kernel
    results = []
    for device in _devices():
        net, there = net.to(device), image.to(device)
        with torch.no_grad():
            net(there)
            start = time.perf_counter()
            maps = net(there)
            error = max(_relative_error(a, b) for a, b in zip(maps, want, strict=True))  # waits for the GPU
            seconds = time.perf_counter() - start
        sum(m.square().mean() for m in net.train()(there)).backward()
        if not all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters()):
            raise WrongError(f'{device}: some gradients are missing, infinite or NaN', REPORT_IT)
        if not error <= 1e-3:
            raise WrongError(f'{device}: maps are {error:.0e} off', "backbone=dict(kernel='reference')")
        results.append(f'{device} {seconds * 1e3:.0f} ms, error {error:.0e}')
        net.eval()
    results += choosing.lines()  # what `auto` took on a GPU
    return f'Swin-T, 224x320: {"; ".join(results)}; allowed 0.001; every gradient is there and finite'


def checkpoint() -> str:
    """Gives the size of a saved checkpoint, from which training goes on to the bit as it would have without.

    It is read with ``weights_only=True``. Raises WrongError if a step after it differs.
    """
    import torch
    from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint

    from swin_mm import SwinTransformer

    torch.manual_seed(0)
    net = SwinTransformer(**SMALL)
    optimizer = torch.optim.AdamW(net.parameters())
    _train_step(net, optimizer)
    with tempfile.TemporaryDirectory(prefix='swin_mm_doctor_') as folder:
        path = Path(folder, 'checkpoint.pth')
        save_checkpoint(dict(state_dict=net.state_dict(), optimizer=optimizer.state_dict(), meta={}), str(path))
        size = path.stat().st_size
        torch.load(path, weights_only=True)
        loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    other = SwinTransformer(**SMALL)
    other.load_state_dict(loaded['state_dict'])
    resumed = torch.optim.AdamW(other.parameters())
    resumed.load_state_dict(loaded['optimizer'])
    _train_step(net, optimizer)
    _train_step(other, resumed)
    if not all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True)):
        raise WrongError('a step after a resume differs from a step without', REPORT_IT)
    return f'{size / 1024:.0f} KiB saved, read with weights_only=True, and a step after it is the same to the bit'


def worker() -> str:
    """Gives the time in which a worker process starts, hands over its batches and ends."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    images = torch.arange(4 * 3 * 256 * 256, dtype=torch.float32).view(4, 3, 256, 256)
    start = time.perf_counter()
    batches = list(DataLoader(TensorDataset(images), batch_size=2, num_workers=1, timeout=WORKER_TIME))
    if not torch.equal(torch.cat([batch for (batch,) in batches]), images):
        raise WrongError('a DataLoader worker hands over other numbers than it was given', 'num_workers=0')
    return f'started, handed over and ended within {time.perf_counter() - start:.1f} s'


def _devices() -> 'Iterator[torch.device]':
    """Yields the CPU, and the first GPU if there is one."""
    import torch

    yield torch.device('cpu')
    if torch.cuda.is_available():
        yield torch.device('cuda', 0)


def _kernel_inputs() -> 'list[Tensor]':
    """Gives qkv, bias and pad of a map that needs padding, the same every time."""
    import torch

    random = torch.Generator().manual_seed(0)
    shapes = (2, 12, 17, 3, 2, 32), (2, 49, 49), (3, 2, 32)
    return [torch.randn(shape, generator=random) for shape in shapes]


def _kernel_errors(name: str, inputs: 'list[Tensor]') -> tuple[float, float]:
    """Gives the error in value and the largest in gradients of a kernel against the reference in float64."""
    from swin_mm.kernels import KERNELS

    exact_inputs = [x.detach().double().cpu().requires_grad_() for x in inputs]
    got, exact = _run_kernel(KERNELS[name], inputs), _run_kernel(KERNELS['reference'], exact_inputs)
    value, *gradients = (_relative_error(a, b) for a, b in zip(got, exact, strict=True))
    return value, max(gradients)


def _run_kernel(function, inputs: 'list[Tensor]') -> 'list[Tensor]':
    """Gives the map of a kernel with shifted windows, and the gradients of a sum that weighs each entry differently."""
    import torch

    out = function(*inputs, (7, 7), (3, 3), 32**-0.5)
    ramp = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=out.device).view_as(out)
    return [out, *torch.autograd.grad((out.double() * ramp).sum(), inputs)]


def _relative_error(got: 'Tensor', want: 'Tensor') -> float:
    """Gives the largest difference over the largest entry of ``want``."""
    want = want.detach().double().cpu()
    return float((got.detach().double().cpu() - want).abs().max() / want.abs().max())


def _train_step(net: 'nn.Module', optimizer: 'torch.optim.Optimizer') -> None:
    import torch

    image = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    optimizer.zero_grad()
    sum(m.square().mean() for m in net(image)).backward()
    optimizer.step()
