"""Writes the config that trains a segmentor on a person's own images and label maps."""

from pathlib import Path
from statistics import median

from mmengine.config import Config

from ...errors import PreflightError
from .config import PRETRAINED, OwnConfig, epochs_for, rounded
from .labels import LabelPart
from .lines import call, class_tuple, made_folder, model_settings, rate, seen_from

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
    size = _image_size(parts['train'])
    crop = min(cfg.model.data_preprocessor.size[0], max(32, size[1]))
    images, root = len(parts['train'].names), root.resolve()
    epochs = epochs_for(images)
    length = epochs * -(-images // cfg.train_dataloader.batch_size)
    shared, files = _files(parts, root)
    text = TEMPLATE.format(
        made_by=made_by,
        recipe=recipe.name,
        root=f'{root.as_posix()}/',
        classes=class_tuple(classes),
        model=model_settings(cfg.model, len(classes), 'data_preprocessor=dict(size=crop)'),
        crop=(crop, crop),
        number=len(classes),
        start=PRETRAINED if cfg.model.backbone.get('init_cfg') else '# Starts from random weights.',
        size=size,
        made=made_folder(lists),
        files=call('files = dict', shared),
        train=call('train = dict', ['own', "ann_file=made + 'train.txt'", *files['train'], 'pipeline=train_pipeline']),
        val=call('val = dict', ['own', "ann_file=made + 'val.txt'", *files['val'], 'pipeline=test_pipeline']),
        counts=[len(parts[name].names) for name in ('train', 'val')],
        epochs=epochs,
        length=length,
        interval=max(1, length // 12),
        warm_up=max(2, min(1500, length // 10)),
        rate=rate(cfg),
    )
    return OwnConfig(text, recipe.stem, size, f'iter_{length}.pth')


TEMPLATE = """# Written by `{made_by}`.
_base_ = 'swin_mm::{recipe}'
data_root = {root!r}
classes = {classes}
crop = {crop}
{model}
{start}
load_from = None  # or a checkpoint of the same model, trained on ADE20K or by you: better where images are few

# At most {size[0]} x {size[1]} pixels, long side by short side; in training half of that to twice, and a crop of it.
train_pipeline = [
    dict(type='swin_mm.LoadImage'),
    dict(type='swin_mm.LoadLabels', num_classes={number}),  # 0 is the first class, 255 is ignored
    dict(type='RandomResize', scale={size}, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale={size}, keep_ratio=True),
    dict(type='swin_mm.LoadLabels', num_classes={number}),
    dict(type='PackSegInputs'),
]
{made}{files}
own = dict(files, type='BaseSegDataset', data_root=data_root, metainfo=dict(classes=classes))
{train}
{val}
train_dataloader = dict(dataset=train)  # {counts[0]:,} images
val_dataloader = test_dataloader = dict(dataset=val)  # {counts[1]:,} images

train_cfg = dict(max_iters={length}, val_interval={interval})  # {epochs} epochs of the images
param_scheduler = [  # the rate rises for {warm_up} steps, then falls to 0 at the end
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end={warm_up}),
    dict(type='PolyLR', power=1.0, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval={interval}))
auto_scale_lr = dict(enable=True)  # {rate}
"""


def _image_size(part: LabelPart) -> tuple[int, int]:
    """(long, short) that images are scaled to at most: their own median."""
    sizes = part.sizes()
    short, long = (median(pick(size) for size in sizes) for pick in (min, max))
    factor = min(1.0, LARGEST / long)
    return rounded(long * factor), rounded(short * factor)


def _files(parts: dict[str, LabelPart], root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Where files are, seen from ``root``, as arguments of ``dict``: for both parts, and for each what differs."""
    found = {}
    for name, part in parts.items():
        images, labels = (seen_from(root, folder) for folder in (part.images, part.labels))
        suffixes = [f'img_suffix={part.image_suffix!r}', f'seg_map_suffix={part.label_suffix!r}']
        found[name] = [f'data_prefix=dict(img_path={images!r}, seg_map_path={labels!r})', *suffixes]
    same = [argument for argument in found['train'] if argument in found['val']]
    rest = {name: [argument for argument in arguments if argument not in same] for name, arguments in found.items()}
    return same, rest
