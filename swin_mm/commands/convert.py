"""Writes the weights of a Swin checkpoint in the dialect of another library, or tells what a file holds.

    swin-mm convert swin_tiny_patch4_window7_224.pth swin_tiny_timm.safetensors --to timm
    swin-mm convert mask_rcnn_swin_tiny_patch4_window7.pth mask_rcnn_mmdet.pth --to mmdet
    swin-mm convert --inspect https://.../swin_tiny_patch4_window7_224.pth

Our own models load every dialect as it is; this is for other programs. Heads of whole models go along, and so do the
class names in a .pth of a detector or segmentor; optimizers and logs stay behind. Swin V2 stays Swin V2; a file of it
tells its window only in a buffer that timm and Hugging Face leave out, and without it torchvision and mmpretrain load
the result with strict=False.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..checkpoints import from_official, to_official, unwrap
from ..checkpoints.downloads import sha256
from ..checkpoints.files import read
from ..checkpoints.locate import locate
from ..checkpoints.published import BY_URL
from ..checkpoints.report import network
from ..checkpoints.sources import local_file
from ..checkpoints.windows import window_of
from ..checkpoints.write import SUFFIXES, class_names, write
from ..errors import PreflightError

DIALECTS = ('official', 'mmdet', 'mmseg', 'mmpretrain', 'timm', 'torchvision', 'hf')


def main(argv: Sequence[str] | None = None) -> None:
    """Converts or inspects as ``argv`` says, None for the command line; raises PreflightError with the reason."""
    parser = argparse.ArgumentParser(description='Convert a Swin checkpoint, or tell what it holds')
    parser.add_argument('src', help='file, URL or hf://OWNER/NAME, of any dialect')
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
    if dst.suffix not in SUFFIXES:
        raise ValueError(f'DST must end in .pth or .safetensors, got {dst}')
    if dst.exists() and not force:
        raise FileExistsError(f'{dst} is there already: pass --force to overwrite it')
    checkpoint = read(src, mmap=True)
    official = to_official(unwrap(checkpoint)[0])
    state = official if dialect == 'official' else from_official(official, dialect)
    write(dst, state, class_names(checkpoint, dialect))
    print(f'{dst}: {len(state)} tensors for {dialect}\nsha256 {sha256(dst)}')


def inspect(src: str) -> None:
    """Prints the dialect, the network and the parts of ``src``; raises ValueError or OSError."""
    path = local_file(src)
    checkpoint = read(path, mmap=True)
    state, prefix = unwrap(checkpoint)
    dialect = locate(state)[0]
    official = to_official(state)
    backbone = {key.removeprefix('backbone.'): value for key, value in official.items()}
    windows = sorted({window for key, value in backbone.items() if (window := window_of(key, value))})
    told = ', '.join(f'{height}' if height == width else f'{height}x{width}' for height, width in windows)
    parts: dict[str, int] = {}
    for key, value in state.items():
        part = 'backbone' if key.startswith(prefix) and not key.startswith(dialect.head) else key.split('.')[0]
        parts[part] = parts.get(part, 0) + (value.numel() if value.is_floating_point() else 0)

    print(f'{path}\nsha256      {sha256(path)}')
    if weights := BY_URL.get(src):
        print(f'published   {weights.task}, {weights.trained_on}, licence {weights.licence}')
        if weights.pretrained_window_sizes:
            sizes = f'{[*weights.window_sizes]}, pretrained_window_sizes={[*weights.pretrained_window_sizes]}'
            print(f"trained as  SwinTransformerV2(arch='{weights.arch}', window_size={sizes})")
    print(f"dialect     {dialect.name} ({dialect.libraries}), prefix '{prefix}'")
    print(f'network     {network(backbone)}, window {told or "not told"}')
    print(f'tensors     {len(state)}')
    for part, number in parts.items():
        print(f'  {part:<16}{number:14,} parameters')
    if others := [key for key, value in checkpoint.items() if not isinstance(value, Tensor)]:
        print(f'file holds  {", ".join(map(str, others))}')
