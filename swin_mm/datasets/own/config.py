"""Writes the config that trains a recipe's model on a person's own data: one page, every choice with its reason."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mmengine.config import Config

from ...errors import PreflightError
from ...recipes import known_recipes, settings_within, type_name
from .coco import Part, has_mask
from .lines import call, class_tuple, made_folder, model_settings, rate, seen_from

ARCHES = {'tiny': 't', 'small': 's', 'base': 'b', 'large': 'l'}
SUFFIXES = ('', '_instance', '_3x')
IMAGES_SEEN, EPOCHS = 12_000, (12, 100)  # as many epochs as show so many images, within these bounds
LARGEST = (1333, 800)  # long and short side in pixels, as on COCO
SMALL_OBJECT = 32  # pixels, where COCO's small objects end


@dataclass
class OwnConfig:
    """A config as text, and what one must know of it: the ``size`` (long, short) that images are scaled to at most."""

    text: str
    recipe: str
    size: tuple[int, int]
    last_checkpoint: str


def choose_recipe(model: str, arch: str = 'tiny') -> Path:
    """The recipe that ``model`` names, or that has this kind of model with a Swin of ``arch``.

    Raises PreflightError if there is none.
    """
    known = {path.stem: path for path in known_recipes()}
    family = [f'{model}_swin_{ARCHES[arch]}{suffix}' for suffix in SUFFIXES]
    found = next((name for name in [model, *family] if name in known), None)
    if found is None:
        near = [name for name in known if name.startswith(f'{model}_')] or difflib.get_close_matches(model, known)
        hint = f'did you mean {" or ".join(near)}?' if near else '`swin-mm recipes` lists them'
        raise PreflightError(f'no recipe has --model {model} with --arch {arch}: {hint}')
    return known[found]


def write_detection(recipe: Path, parts: dict[str, Part], classes: list[str], root: Path, made_by: str) -> OwnConfig:
    """Writes the config of ``recipe`` for boxes, or masks if it learns these, of ``parts`` 'train' and 'val'.

    All images are below ``root``. ``made_by`` is the command that writes it again.

    Raises PreflightError if the recipe does not suit: it learns masks that the data lack, or puts images together.
    """
    cfg = Config.fromfile(recipe)
    masks = _learns_masks(cfg, recipe, parts)
    size = _image_size(parts['train'], _fixed_size(cfg))
    schedule, last_checkpoint = _schedule(cfg, len(parts['train'].content['images']))
    root = root.resolve()
    files = {name: _dataset(part, root) for name, part in parts.items()}
    text = TEMPLATE.format(
        made_by=made_by,
        recipe=recipe.name,
        root=f'{root.as_posix()}/',
        classes=class_tuple(classes),
        model=model_settings(cfg.model, len(classes)),
        start=PRETRAINED if cfg.model.backbone.get('init_cfg') else '# Starts from random weights.',
        size=size,
        least=(size[0], rounded(size[1] * 0.6)),
        load=f"dict(type='LoadAnnotations', with_bbox=True{', with_mask=True' if masks else ''})",
        made=next((made_folder(part.path.parent) for part in parts.values() if part.unwritten), ''),
        kind='' if type_name(cfg.train_dataloader.dataset) == 'CocoDataset' else "type='CocoDataset', ",
        train=call('train = dict', ['own', *files['train'], 'pipeline=train_pipeline']),
        val=call('val = dict', ['own', *files['val'], 'pipeline=test_pipeline']),
        counts=[len(parts[name].content['images']) for name in ('train', 'val')],
        val_file=_joined(root, parts['val']),
        schedule=schedule,
        rate=rate(cfg),
    )
    return OwnConfig(text, recipe.stem, size, last_checkpoint)


PRETRAINED = (
    """# Starts from weights of the backbone, downloaded once. Without: --cfg-options model.backbone.init_cfg=None"""
)
TEMPLATE = """# Written by `{made_by}`.
_base_ = 'swin_mm::{recipe}'
data_root = {root!r}
classes = {classes}
{model}
{start}
load_from = None  # or a checkpoint of the same model, trained on COCO or by you: better where images are few

# At most {size[0]} x {size[1]} pixels, long side by short side; in training the short side is {least[1]} to {size[1]}.
train_pipeline = [
    dict(type='swin_mm.LoadImage'),
    {load},
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=[{least}, {size}], keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale={size}, keep_ratio=True),
    {load},
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
{made}own = dict({kind}data_root=data_root, metainfo=dict(classes=classes))
{train}
{val}
train_dataloader = dict(dataset=train)  # {counts[0]:,} images
val_dataloader = test_dataloader = dict(dataset=val)  # {counts[1]:,} images
val_evaluator = test_evaluator = dict(ann_file={val_file})

{schedule}
auto_scale_lr = dict(enable=True)  # {rate}
"""


def _learns_masks(cfg: Config, recipe: Path, parts: dict[str, Part]) -> bool:
    kind = type_name(cfg.train_dataloader.dataset)
    if kind not in ('CocoDataset', 'ShapesDataset') or 'PipelineSwitchHook' in str(cfg.default_hooks):
        raise PreflightError(
            f'recipe {recipe.stem} has a way of its own to put its data together, which `init` does not write: take '
            'another, such as mask_rcnn or faster_rcnn'
        )
    masks = 'segm' in cfg.val_evaluator.metric
    for part in parts.values() if masks else ():
        without = sum(not has_mask(annotation) for annotation in part.content['annotations'])
        if without:
            raise PreflightError(
                f'recipe {recipe.stem} learns masks, and {without} of {len(part.content["annotations"])} objects in '
                f'{part.path} have a box alone: take --model faster_rcnn, or outline them'
            )
    return masks


def _image_size(part: Part, limit: int | None) -> tuple[int, int]:
    """(long, short) that images are scaled to at most: their own median, up to twice that if objects are small."""
    images, objects = part.content['images'], part.content['annotations']
    short, long = (median(pick(image['width'], image['height']) for image in images) for pick in (min, max))
    side = median(max(1.0, found['bbox'][2] * found['bbox'][3]) ** 0.5 for found in objects)
    factor = min(2.0, max(1.0, SMALL_OBJECT / side))
    factor = min(factor, LARGEST[0] / long, LARGEST[1] / short, (limit or long * factor) / long)
    return rounded(long * factor), rounded(short * factor)


def _fixed_size(cfg: Config) -> int | None:
    """The side that a recipe pads every image to; larger ones it would cut."""
    sizes = [
        part['size'][0] for _, part in settings_within(cfg.model, 'model') if type_name(part) == 'BatchFixedSizePad'
    ]
    return sizes[0] if sizes else None


def rounded(side: float) -> int:
    """The nearest multiple of 32, as the model pads to; COCO's 1333 stays."""
    return 1333 if round(side) == 1333 else max(32, round(side / 32) * 32)


def epochs_for(images: int) -> int:
    """As many epochs as show `IMAGES_SEEN`, within bounds."""
    return min(EPOCHS[1], max(EPOCHS[0], -(-IMAGES_SEEN // images)))


def _schedule(cfg: Config, images: int) -> tuple[str, str]:
    """The lines that say how long to train and how the rate falls, and the name of the last checkpoint."""
    epochs = epochs_for(images)
    steps = -(-images // cfg.train_dataloader.batch_size)
    warm_up = max(2, min(500, epochs * steps // 10))
    by_epoch = cfg.train_cfg.type == 'EpochBasedTrainLoop'
    length = epochs if by_epoch else epochs * steps
    interval = max(1, length // 12)
    loop = f'max_epochs={length}' if by_epoch else f'dynamic_intervals=None, max_iters={length}'
    lines = f"""train_cfg = dict({loop}, val_interval={interval})  # {epochs} epochs show {epochs * images:,} images
param_scheduler = [  # the rate rises for {warm_up} steps, then falls to 0 at the end
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end={warm_up}),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval={interval}))"""
    return lines, f'epoch_{length}.pth' if by_epoch else f'iter_{length}.pth'


def _dataset(part: Part, root: Path) -> list[str]:
    """Where the files of ``part`` are, as arguments of ``dict``: made, or seen from ``root``, which mmengine joins."""
    prefix = part.images.resolve().relative_to(root).as_posix()
    file = f'made + {part.path.name!r}' if part.unwritten else repr(seen_from(root, part.path))
    return [f'ann_file={file}', f'data_prefix=dict(img={"" if prefix == "." else prefix + "/"!r})']


def _joined(root: Path, part: Part) -> str:
    """The whole path of the validation file in Python: mmengine joins no ``data_root`` to the file of an evaluator."""
    whole = part.unwritten or Path(seen_from(root, part.path)).is_absolute()
    return "val['ann_file']" if whole else "data_root + val['ann_file']"
