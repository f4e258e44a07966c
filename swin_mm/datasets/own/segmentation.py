"""Writes the config that trains a segmentor on a person's own images and label maps."""

from pathlib import Path
from statistics import median

from mmengine.config import Config

from ...errors import PreflightError
from .config import PRETRAINED, OwnConfig, class_tuple, epochs_for, head_settings, rate, rounded, seen_from
from .labels import LabelPart

LARGEST = 2048  # pixels, the long side on ADE20K


def write_segmentation(
    recipe: Path, parts: dict[str, LabelPart], classes: list[str], root: Path, lists: Path, made_by: str
) -> OwnConfig:
    """Writes the config of ``recipe`` for the label maps of ``parts`` 'train' and 'val'.

    All files are below ``root``; the folder ``lists`` has train.txt and val.txt, with the names of their images.
    ``made_by`` is the command that writes it again. Raises PreflightError for a recipe of detection.
    """
    cfg = Config.fromfile(recipe)
    if cfg.default_scope != 'mmseg':
        raise PreflightError(f'label maps need a recipe of segmentation, got {recipe.stem}: take --model upernet')
    sizes = parts['train'].sizes()
    short, long = (median(pick(size) for size in sizes) for pick in (min, max))
    factor = min(1.0, LARGEST / long)
    size = (rounded(long * factor), rounded(short * factor))
    crop = min(cfg.model.data_preprocessor.size[0], max(32, size[1]))
    epochs = epochs_for(len(sizes))
    length = epochs * -(-len(sizes) // cfg.train_dataloader.batch_size)
    root = root.resolve()
    text = TEMPLATE.format(
        made_by=made_by,
        counts=[len(parts[name].names) for name in ('train', 'val')],
        recipe=recipe.name,
        root=f'{root.as_posix()}/',
        classes=class_tuple(classes),
        heads=head_settings(cfg.model, len(classes)),
        crop=(crop, crop),
        number=len(classes),
        start=PRETRAINED if cfg.model.backbone.get('init_cfg') else '# Starts from random weights.',
        size=size,
        train=_dataset(parts['train'], root, lists / 'train.txt'),
        val=_dataset(parts['val'], root, lists / 'val.txt'),
        epochs=epochs,
        length=length,
        interval=max(1, length // 12),
        warm_up=max(2, min(1500, length // 10)),
        rate=rate(cfg),
    )
    return OwnConfig(text, recipe.stem, size, f'iter_{length}.pth')


TEMPLATE = """# Written by `{made_by}`: {counts[0]} images to train on, {counts[1]} to validate.
_base_ = 'swin_mm::{recipe}'
data_root = {root!r}
classes = {classes}
model = dict(data_preprocessor=dict(size={crop}), {heads})
{start}
load_from = None  # or a checkpoint of the same model, trained on ADE20K or by you: better where images are few

# At most {size[0]} x {size[1]} pixels, long side by short side; in training half of that to twice, and a crop of it.
load_labels = dict(type='swin_mm.LoadLabels', num_classes={number})  # 0 is the first class, 255 is ignored
train_pipeline = [
    dict(type='swin_mm.LoadImage'),
    load_labels,
    dict(type='RandomResize', scale={size}, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size={crop}, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale={size}, keep_ratio=True),
    load_labels,
    dict(type='PackSegInputs'),
]
own = dict(type='BaseSegDataset', data_root=data_root, metainfo=dict(classes=classes), reduce_zero_label=False)
train = dict({train}, pipeline=train_pipeline)
val = dict({val}, pipeline=test_pipeline)
train_dataloader = dict(dataset=dict(own, **train))
val_dataloader = dict(dataset=dict(own, **val))
test_dataloader = val_dataloader

# {epochs} epochs of the images.
train_cfg = dict(max_iters={length}, val_interval={interval})
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end={warm_up}),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=0, end={length}),
]
default_hooks = dict(checkpoint=dict(interval={interval}))
auto_scale_lr = dict(enable=True)  # {rate}
"""


def _dataset(part: LabelPart, root: Path, names: Path) -> str:
    """Where the files of ``part`` are, seen from ``root``, as arguments of ``dict``; mmengine joins the two."""
    images, labels = (seen_from(root, folder) for folder in (part.images, part.labels))
    suffixes = f'img_suffix={part.image_suffix!r}, seg_map_suffix={part.label_suffix!r}'
    files = f'ann_file={seen_from(root, names)!r}, data_prefix=dict(img_path={images!r}, seg_map_path={labels!r})'
    return f'{files}, {suffixes}'
