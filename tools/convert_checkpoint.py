"""Writes the weights of a Swin checkpoint in the dialect of another library, or tells what a file holds.

    python tools/convert_checkpoint.py swin_tiny_patch4_window7_224.pth swin_tiny_timm.safetensors --to timm
    python tools/convert_checkpoint.py mask_rcnn_swin_tiny_patch4_window7.pth mask_rcnn_mmdet.pth --to mmdet
    python tools/convert_checkpoint.py --inspect https://.../swin_tiny_patch4_window7_224.pth

Our own models load every dialect as it is; this is for other programs. Heads of whole models go along, and so do the
class names in a .pth of a detector or segmentor; optimizers and logs stay behind.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import launch
import torch
from torch import Tensor

from swin_mm.checkpoints import from_official, to_official, unwrap
from swin_mm.checkpoints.dialects import locate
from swin_mm.checkpoints.downloads import cached, is_url, sha256
from swin_mm.checkpoints.files import read
from swin_mm.checkpoints.official import BY_URL
from swin_mm.checkpoints.report import network
from swin_mm.engine.preflight import PreflightError

DIALECTS = ('official', 'mmdet', 'mmseg', 'timm', 'torchvision', 'hf')
OPENMMLAB = ('official', 'mmdet', 'mmseg')  # programs that read `meta`
NAMES = ('dataset_meta', 'CLASSES', 'PALETTE')


def main(argv: Sequence[str] | None = None) -> None:
    """Converts or inspects as ``argv`` says, None for the command line; raises PreflightError with the reason."""
    parser = argparse.ArgumentParser(description='Convert a Swin checkpoint, or tell what it holds')
    parser.add_argument('src', help='file or URL, of any dialect')
    parser.add_argument('dst', nargs='?', type=Path, help='file to write: .pth or .safetensors')
    parser.add_argument('--to', choices=DIALECTS, help='library whose names and layouts to write')
    parser.add_argument('--inspect', action='store_true', help='only print what SRC holds')
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    args = parser.parse_args(argv)
    if args.inspect != (args.dst is None) or args.inspect != (args.to is None):
        parser.error('give SRC DST --to DIALECT, or --inspect SRC')
    try:
        if args.inspect:
            inspect(args.src)
        else:
            convert(args.src, args.dst, args.to, args.force)
    except (ValueError, OSError) as error:
        raise PreflightError(str(error)) from error


def convert(src: str, dst: Path, dialect: str, force: bool = False) -> None:
    """Writes ``dst``, whole or not at all; raises ValueError or OSError."""
    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'DST must end in .pth or .safetensors, got {dst}')
    if dst.exists() and not force:
        raise FileExistsError(f'{dst} is there already: pass --force to overwrite it')
    checkpoint = read(src, mmap=True)
    official = to_official(unwrap(checkpoint)[0])
    state = official if dialect == 'official' else from_official(official, dialect)

    dst.parent.mkdir(parents=True, exist_ok=True)
    part = dst.with_name(f'{dst.name}.{os.getpid()}.part')
    try:
        _write(part, {key: _alone(value) for key, value in state.items()}, _names(checkpoint, dialect), dst.suffix)
        os.replace(part, dst)
    finally:
        part.unlink(missing_ok=True)
    print(f'{dst}: {len(state)} tensors for {dialect}\nsha256 {sha256(dst)}')


def inspect(src: str) -> None:
    """Prints the dialect, the network and the parts of ``src``; raises ValueError or OSError."""
    checkpoint = read(src, mmap=True)
    path = cached(src) if is_url(src) else Path(src).expanduser()
    state, prefix = unwrap(checkpoint)
    dialect = locate(state)[0]
    official = to_official(state)
    backbone = {key.removeprefix('backbone.'): value for key, value in official.items()}
    windows = [
        (int(table.shape[0] ** 0.5) + 1) // 2
        for key, table in backbone.items()
        if key.endswith('.blocks.0.attn.relative_position_bias_table')
    ]
    parts: dict[str, int] = {}
    for key, value in state.items():
        part = 'backbone' if key.startswith(prefix) and not key.startswith(dialect.head) else key.split('.')[0]
        parts[part] = parts.get(part, 0) + (value.numel() if value.is_floating_point() else 0)

    print(f'{path}\nsha256      {sha256(path)}')
    if weights := BY_URL.get(src):
        print(f'published   {weights.task}, {weights.trained_on}, licence {weights.licence}')
    print(f"dialect     {dialect.name} ({dialect.libraries}), prefix '{prefix}'")
    print(f'network     {network(backbone)}, window {", ".join(map(str, sorted(set(windows))))}')
    print(f'tensors     {len(state)}')
    for part, number in parts.items():
        print(f'  {part:<16}{number:14,} parameters')
    if others := [key for key, value in checkpoint.items() if not isinstance(value, Tensor)]:
        print(f'file holds  {", ".join(map(str, others))}')


def _names(checkpoint: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """The names of classes, where there are some and a reader for them."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or dialect not in OPENMMLAB:
        return {}
    return {key: meta[key] for key in NAMES if key in meta}


def _alone(value: Tensor) -> Tensor:
    """``value`` without the rest of a larger storage, which would be written as well."""
    value = value.detach().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _write(path: Path, state: dict[str, Tensor], names: dict[str, Any], suffix: str) -> None:
    if suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file(state, path, metadata={'format': 'pt'})
    else:
        torch.save({'meta': names, 'state_dict': state} if names else state, path)
    with open(path, 'rb') as file:
        os.fsync(file.fileno())


if __name__ == '__main__':
    launch.run(main)
