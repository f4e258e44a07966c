"""Checks what is installed: versions, whether packages can be imported, and who provides the ops of mmcv."""

import contextlib
import functools
import importlib
import json
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from .report import AbsentError, Check, WrongError

ROOT = Path(__file__).parents[2]
PYTHON = '3.10', '3.14'  # from the first to before the second
REINSTALL = 'pip install -r requirements.txt, in a new virtual environment'


@dataclass(frozen=True)
class Package:
    """A package: its name in the report, its module, the distributions that may bring it, the oldest that works.

    ``probe`` is a second module to import, for a package whose own module can be imported even if it is broken.
    ``absent`` says what the package is for, if it is not needed.
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    oldest: str = '0'
    needed: bool = False
    probe: str | None = None
    absent: str = ''


PACKAGES = (
    Package('torch', 'torch', ('torch',), '2.5.1', needed=True),
    Package('torchvision', 'torchvision', ('torchvision',), '0.20.1', needed=True, probe='torchvision.ops'),
    Package('numpy', 'numpy', ('numpy',), '1.26', needed=True),
    Package('pillow', 'PIL', ('pillow',), '10', needed=True, probe='PIL.Image'),
    Package('safetensors', 'safetensors', ('safetensors',), '0.4', needed=True, probe='safetensors.torch'),
    Package('mmengine', 'mmengine', ('mmengine', 'mmengine-lite', 'onedl-mmengine'), '0.10.6', needed=True),
    Package(
        'mmcv', 'mmcv', ('mmcv-lite', 'mmcv', 'mmcv-full', 'onedl-mmcv'), '2.0.1', absent='mmdet and mmseg need it'
    ),
    Package('mmdet', 'mmdet', ('mmdet', 'onedl-mmdetection'), '3.3', probe='mmdet.models', absent='for detection'),
    Package(
        'mmseg',
        'mmseg',
        ('mmsegmentation', 'onedl-mmsegmentation'),
        '1.2.2',
        probe='mmseg.models',
        absent='for segmentation',
    ),
    Package(
        'opencv',
        'cv2',
        ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless'),
    ),
    Package(
        'triton',
        'triton',
        ('triton', 'pytorch-triton', 'triton-windows'),
        absent="only for kernel='triton' on a GPU",
    ),
)
ADVICE = {
    'cv2': 'pip uninstall opencv-python, then pip install opencv-python-headless, which needs no system libraries',
    'torchvision': 'install the torchvision that belongs to this PyTorch: pip install -U torch torchvision',
}


def checks() -> list[Check]:
    """Gives the checks of Python, of swin_mm itself, of every package and of the ops of mmcv."""
    packages = [Check(p.name, functools.partial(package, p), ADVICE.get(p.module, REINSTALL)) for p in PACKAGES]
    ops = 'pip uninstall mmcv, then pip install mmcv-lite: swin_mm brings its ops; or build mmcv for this PyTorch'
    return [
        Check('python', python),
        Check('swin_mm', swin_mm, 'put right what is WRONG below; if nothing is, open an issue with this report'),
        *packages,
        Check('mmcv ops', mmcv_ops, ops),
    ]


def python() -> str:
    """Gives the version of Python, whether it is in a virtual environment, and the platform."""
    number = platform.python_version()
    oldest, end = PYTHON
    if not _version_numbers(oldest) <= sys.version_info[:2] < _version_numbers(end):
        raise WrongError(f'{number} is not from {oldest} to before {end}', 'install one of these')
    where = 'in a virtual environment' if sys.prefix != sys.base_prefix else 'not in a virtual environment'
    return f'{number}, {where}, {platform.platform()}'


def swin_mm() -> str:
    """Gives the version of swin_mm, whether it runs from a clone, and at which commit."""
    importlib.import_module('swin_mm.backbone.swin')  # the package may be a stand-in, see __main__.py
    number = getattr(sys.modules['swin_mm'], '__version__', 'of unknown version')
    return f'{number}, {_origin()}'


def package(wanted: Package) -> str:
    """Gives the version of a package that can be imported; raises if it cannot, or is too old."""
    names = '; '.join(f'{name} {version(name)}' for name in wanted.distributions if _is_installed(name))
    if find_spec(wanted.module) is None:
        if names:
            raise WrongError(f'{names} is installed, but its module {wanted.module} is gone', REINSTALL)
        if wanted.needed:
            raise WrongError('it is not installed, and nothing works without it', REINSTALL)
        raise AbsentError(wanted.absent or 'mmcv needs it')
    module = importlib.import_module(wanted.module)
    number = str(getattr(module, '__version__', names or 'of unknown version'))
    if _version_numbers(number) < _version_numbers(wanted.oldest):
        raise WrongError(f'{number} is older than {wanted.oldest}', REINSTALL)
    if wanted.probe:
        importlib.import_module(wanted.probe)
    more = ''
    if wanted.module == 'torch':
        module.zeros(1).numpy()  # fails where PyTorch was built for another major version of NumPy
        more = f', built for CUDA {module.version.cuda}' if module.version.cuda else ', built without CUDA'
    elif wanted.module in ('mmdet', 'mmseg'):
        _build_backbone(wanted.module)
        more = ', builds swin_mm.SwinTransformer'
    is_expected = names in (f'{wanted.name} {number}', f'{wanted.name} {number.partition("+")[0]}')
    origin = '' if is_expected else f' ({names or "no metadata"})'
    return f'{number}{origin}{more}'


def mmcv_ops() -> str:
    """Says who provides the ops of mmcv, after two of them gave the right results."""
    if find_spec('mmcv') is None:
        raise AbsentError('there is no mmcv')
    import torch

    ops, extension = importlib.import_module('mmcv.ops'), importlib.import_module('mmcv._ext')
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30.0]])
    kept = ops.nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5)[1].tolist()
    rois = ops.roi_align(torch.full((1, 1, 8, 8), 3.0), torch.tensor([[0, 1, 1, 6, 6.0]]), (2, 2))
    if kept != [1, 2] or not torch.allclose(rois, torch.full((1, 1, 2, 2), 3.0)):
        found = f'nms keeps boxes {kept}, [1, 2] is right; roi_align of threes gives {rois.mean():g}'
        raise WrongError(found, REINSTALL)
    return f'{_whose(extension)}; nms and roi_align give what they must'


def _whose(extension: ModuleType) -> str:
    """Says whether the ops are native, and in which file, or ours, and which ones there are."""
    from swin_mm.compat.mmcv_ops import FAMILIES, FINDER

    if getattr(extension.__spec__, 'loader', None) is not FINDER:
        return f'native, {Path(getattr(extension, "__file__", None) or "?").name}'
    families = (f'swin_mm.compat.mmcv_ops.{family}' for family in FAMILIES if family != 'info')
    names = (name for family in families for name in importlib.import_module(family).__all__)
    ours = {re.sub('_(forward|backward(_input|_parameters)?)$', '', name) for name in names}
    return f'ours, on torchvision: {" ".join(sorted(ours))}'


def _build_backbone(package: str) -> None:
    """Raises if a config of ``package`` cannot name our backbone."""
    registry = importlib.import_module(f'{package}.registry').MODELS
    arguments = dict(embed_dims=4, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    registry.build(dict(type='swin_mm.SwinTransformer', **arguments))


def _origin() -> str:
    """Says whether swin_mm runs from a clone, at which commit, and whether it is installed."""
    clone = (ROOT / 'pyproject.toml').is_file()
    installed = 'not installed'
    with contextlib.suppress(PackageNotFoundError):
        url = json.loads(distribution('swin-mm').read_text('direct_url.json') or '{}')
        installed = 'installed editable' if url.get('dir_info', {}).get('editable') else 'installed'
    if not clone:
        return installed
    return f'a clone{_commit()}, {installed}'


def _commit() -> str:
    command = ['git', '-C', str(ROOT), 'describe', '--always', '--dirty', '--exclude=*']
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return f' at commit {done.stdout.strip()}'
    return ''


def _is_installed(name: str) -> bool:
    with contextlib.suppress(PackageNotFoundError):
        return bool(version(name))
    return False


def _version_numbers(text: str) -> tuple[int, ...]:
    """Gives (2, 14, 1) for '2.14.1+cu130'."""
    release = re.split(r'[^\d.]', text, maxsplit=1)[0]
    return tuple(int(part) for part in release.split('.') if part)
