"""Checks what the machine has: cores, memory, room on disks, shared memory for workers, GPUs."""

import os
import platform
import shutil
import tempfile
from pathlib import Path

from .report import AbsentError, Check, WrongError

GIB = 2**30
ROOM = {'here': 2 * GIB, 'temp': GIB // 4}  # a Mask R-CNN Swin-T with its optimizer's state takes 0.6 GiB
SHARED_MEMORY = GIB // 4  # a worker hands over two batches of about 30 MiB
MEMORY = GIB
ENVIRONMENT = (
    'CUDA_LAUNCH_BLOCKING',
    'CUDA_VISIBLE_DEVICES',
    'MKL_NUM_THREADS',
    'NCCL_DEBUG',
    'OMP_NUM_THREADS',
    'PYTORCH_ALLOC_CONF',
    'PYTORCH_CUDA_ALLOC_CONF',
    'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD',
    'TRITON_INTERPRET',
)


def checks() -> list[Check]:
    """Gives the checks of the machine."""
    driver = 'install the driver that this PyTorch needs, or the PyTorch that belongs to the driver (pytorch.org)'
    return [
        Check('cpu', cpu),
        Check('memory', memory),
        Check('disk here', lambda: disk(Path.cwd(), ROOM['here']), 'change to a folder that exists'),
        Check('disk temp', lambda: disk(Path(tempfile.gettempdir()), ROOM['temp']), 'set TMPDIR to a writable folder'),
        Check('/dev/shm', shared_memory),
        Check('gpu', gpu, driver),
        Check('environment', environment),
    ]


def cpu() -> str:
    """Gives instruction set, cores and threads."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    bfloat16 = 'with' if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 'without'
    return (
        f'{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {bfloat16} bfloat16, {usable} of '
        f'{os.cpu_count()} cores usable{_quota_text()}, PyTorch uses {torch.get_num_threads()} threads'
    )


def memory() -> str:
    """Gives how much memory is left and how much there is; raises WrongError if too little is left."""
    table = Path('/proc/meminfo')
    if not table.is_file():
        raise AbsentError(f'{platform.system()} does not tell in /proc/meminfo')
    rows = (line.split() for line in table.read_text().splitlines())
    sizes = {name: int(number) * 1024 for name, number, *_ in rows}
    total, left = sizes['MemTotal:'], sizes['MemAvailable:']
    limit = _first_line('/sys/fs/cgroup/memory.max')
    if limit.isdigit() and int(limit) < total:
        total = int(limit)  # a container may use less than the machine has
        used = int(_first_line('/sys/fs/cgroup/memory.current') or 0)
        left = min(left, total - used)
    text = f'{_size(left)} of {_size(total)} free'
    if left < MEMORY:
        raise WrongError(text, f'end other programs: training needs {_size(MEMORY)} and more')
    return text


def disk(folder: Path, least: int) -> str:
    """Gives the room in ``folder``; raises WrongError below ``least`` bytes."""
    usage = shutil.disk_usage(folder)
    text = f'{_size(usage.free)} of {_size(usage.total)} free in {folder}'
    if usage.free < least:
        raise WrongError(text, f'make room: {_size(least)} at least')
    return text


def shared_memory() -> str:
    """Gives the room in shared memory, through which the workers of a DataLoader hand over batches."""
    if not Path('/dev/shm').is_dir():
        raise AbsentError('workers hand pictures over by other means')
    usage = shutil.disk_usage('/dev/shm')
    text = f'{_size(usage.free)} of {_size(usage.total)} free'
    if usage.free < SHARED_MEMORY:
        raise WrongError(
            f'{text}, too little for the workers of a DataLoader, which then die of a bus error',
            'docker run --shm-size=8g, or num_workers=0 and persistent_workers=False in every dataloader',
        )
    return text


def gpu() -> str:
    """Describes each GPU, after a product of matrices on it."""
    import torch

    if not torch.cuda.is_available():
        hidden = os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1')
        if os.path.exists('/dev/nvidiactl') and not hidden:
            build = f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'
            raise WrongError(
                f'there is an NVIDIA device, but PyTorch, built {build}, cannot use it',
                'install the driver that this PyTorch needs, or the PyTorch that belongs to the driver (pytorch.org)',
            )
        raise AbsentError('hidden by CUDA_VISIBLE_DEVICES' if hidden else 'models run on the CPU')
    found = []
    for i in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f'cuda:{i}')
        if (ones @ ones).sum().item() != 64**3:
            raise WrongError(f'cuda:{i} multiplies matrices of ones to something else', 'take this GPU out of use')
        about = torch.cuda.get_device_properties(i)
        free = torch.cuda.mem_get_info(i)[0]
        capability = f'{about.major}.{about.minor}'
        found.append(
            f'cuda:{i} {about.name}, {_size(free)} of {_size(about.total_memory)} free, capability {capability}'
        )
    return '; '.join(found)


def environment() -> str:
    """Lists the set variables that change what PyTorch does; no others are looked at."""
    there = [f'{name}={os.environ[name]}' for name in ENVIRONMENT if name in os.environ]
    if not there:
        raise AbsentError(f'none of {", ".join(ENVIRONMENT)} is set')
    return ' '.join(there)


def _quota_text() -> str:
    """Says, for the report, how many cores a container may use; '' without a limit."""
    quota, _, period = _first_line('/sys/fs/cgroup/cpu.max').partition(' ')
    if not (quota.isdigit() and period.isdigit()):
        return ''
    return f', limited to {int(quota) / int(period):.3g}'


def _first_line(path: str) -> str:
    """Gives the first line of a file; '' if it cannot be read."""
    try:
        return Path(path).read_text().partition('\n')[0]
    except OSError:
        return ''


def _size(size: int) -> str:
    return f'{size / GIB:.1f} GiB'
