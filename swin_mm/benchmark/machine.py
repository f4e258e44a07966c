"""Says what a benchmark ran on: the machine, the versions, the commit."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ('swin_mm', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'timm', 'triton')


def machine(device: torch.device) -> dict[str, Any]:
    """Describes the processor with its cores and threads, and the GPU, None if that is not used."""
    cpu = Path('/proc/cpuinfo')
    model = re.search(r'model name\s*: (.*)', cpu.read_text()) if cpu.is_file() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return dict(
        cpu=model[1] if model else platform.processor() or platform.machine(),
        cores=cores,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name(device) if device.type == 'cuda' else None,
    )


def versions() -> dict[str, str]:
    """Gives the versions of Python and of the packages that are loaded."""
    loaded = {name: getattr(sys.modules.get(name), '__version__', None) for name in PACKAGES}
    return {'python': platform.python_version()} | {name: str(version) for name, version in loaded.items() if version}


def commit() -> str | None:
    """Gives the commit of our clone, with '-dirty' if there are changes; None without a clone or git."""
    clone = Path(__file__).parents[2]
    if not (clone / 'pyproject.toml').is_file():  # installed, maybe inside somebody's repository
        return None
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
