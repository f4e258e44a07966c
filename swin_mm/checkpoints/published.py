"""The weights that the authors of Swin Transformer published, as a table.

Addresses are those of MODELHUB.md in microsoft/Swin-Transformer and of the README files of
Swin-Transformer-Object-Detection and Swin-Transformer-Semantic-Segmentation; the licence is that of
SwinTransformer/storage, which holds the files. MoE and MLP files are left out, and backbones alone from MoBY and from
SimMIM.
"""

from dataclasses import dataclass, replace

RELEASES = 'https://github.com/SwinTransformer/storage/releases/download'


@dataclass(frozen=True)
class Weights:
    """One published file.

    ``arch`` is as for ``SwinTransformer``, ``window`` in tokens, ``image_size`` in pixels (the crop for detectors and
    segmentors: None where pictures keep their size). ``trained_on``: data sets, in order. ``classes``: of the head.
    ``sha256``: its first digits or all 64, None where the publisher gives none. ``recipe``: ours whose published number
    these weights have. ``window_sizes``, ``pretrained_window_sizes``: of Swin V2 alone, a window for each stage.
    ``SwinTransformerV2`` with these two is the network that was trained, and the second go with any other windows too.
    """

    name: str
    release: str
    task: str
    arch: str
    window: int
    image_size: int | None
    trained_on: str
    classes: int
    sha256: str | None = None
    licence: str = 'MIT'
    recipe: str | None = None
    window_sizes: tuple[int, ...] = ()
    pretrained_window_sizes: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """Where the file is."""
        return f'{RELEASES}/{self.release}/{self.name}.pth'


def _imagenet(name: str, release: str, arch: str, window: int, image_size: int) -> Weights:
    data, classes = 'ImageNet-1K', 1000
    if '_22kto1k' in name:
        data = 'ImageNet-22K, ImageNet-1K'
    elif name.endswith('_22k'):
        data, classes = 'ImageNet-22K', 21841
    return Weights(name, release, 'classification', arch, window, image_size, data, classes)


def _v2(name: str, arch: str, window: int, image_size: int, pretrained: tuple[int, int] | None = None) -> Weights:
    """``pretrained``: window and image size of the pretraining, where they were others."""
    windows = _windows(window, image_size)
    return replace(
        _imagenet(name, 'v2.0.0', arch, window, image_size),
        window_sizes=windows,
        pretrained_window_sizes=_windows(*pretrained) if pretrained else windows,
    )


def _windows(window: int, image_size: int) -> tuple[int, ...]:
    """Of each stage: no larger than its map (official ``SwinTransformerBlock.__init__``)."""
    return tuple(min(window, image_size // stride) for stride in (4, 8, 16, 32))


def _pretraining(name: str) -> str:
    return 'ImageNet-1K without labels (MoBY)' if name.startswith('moby_') else 'ImageNet-1K'


def _coco(name: str, release: str, arch: str, recipe: str | None = None) -> Weights:
    return Weights(name, release, 'detection', arch, 7, None, f'{_pretraining(name)}, COCO', 80, recipe=recipe)


def _ade20k(name: str, release: str, arch: str, recipe: str | None = None) -> Weights:
    return Weights(name, release, 'segmentation', arch, 7, 512, f'{_pretraining(name)}, ADE20K', 150, recipe=recipe)


OFFICIAL = (
    _imagenet('swin_tiny_patch4_window7_224', 'v1.0.0', 'tiny', 7, 224),
    _imagenet('swin_small_patch4_window7_224', 'v1.0.0', 'small', 7, 224),
    _imagenet('swin_base_patch4_window7_224', 'v1.0.0', 'base', 7, 224),
    _imagenet('swin_base_patch4_window12_384', 'v1.0.0', 'base', 12, 384),
    _imagenet('swin_tiny_patch4_window7_224_22k', 'v1.0.8', 'tiny', 7, 224),
    _imagenet('swin_small_patch4_window7_224_22k', 'v1.0.8', 'small', 7, 224),
    _imagenet('swin_base_patch4_window7_224_22k', 'v1.0.0', 'base', 7, 224),
    _imagenet('swin_base_patch4_window12_384_22k', 'v1.0.0', 'base', 12, 384),
    _imagenet('swin_large_patch4_window7_224_22k', 'v1.0.0', 'large', 7, 224),
    _imagenet('swin_large_patch4_window12_384_22k', 'v1.0.0', 'large', 12, 384),
    _imagenet('swin_tiny_patch4_window7_224_22kto1k_finetune', 'v1.0.8', 'tiny', 7, 224),
    _imagenet('swin_small_patch4_window7_224_22kto1k_finetune', 'v1.0.8', 'small', 7, 224),
    _imagenet('swin_base_patch4_window7_224_22kto1k', 'v1.0.0', 'base', 7, 224),
    _imagenet('swin_base_patch4_window12_384_22kto1k', 'v1.0.0', 'base', 12, 384),
    _imagenet('swin_large_patch4_window7_224_22kto1k', 'v1.0.0', 'large', 7, 224),
    _imagenet('swin_large_patch4_window12_384_22kto1k', 'v1.0.0', 'large', 12, 384),
    _v2('swinv2_tiny_patch4_window8_256', 'tiny', 8, 256),
    _v2('swinv2_small_patch4_window8_256', 'small', 8, 256),
    _v2('swinv2_base_patch4_window8_256', 'base', 8, 256),
    _v2('swinv2_tiny_patch4_window16_256', 'tiny', 16, 256),
    _v2('swinv2_small_patch4_window16_256', 'small', 16, 256),
    _v2('swinv2_base_patch4_window16_256', 'base', 16, 256),
    _v2('swinv2_base_patch4_window12_192_22k', 'base', 12, 192),
    _v2('swinv2_base_patch4_window12to16_192to256_22kto1k_ft', 'base', 16, 256, (12, 192)),
    _v2('swinv2_base_patch4_window12to24_192to384_22kto1k_ft', 'base', 24, 384, (12, 192)),
    _v2('swinv2_large_patch4_window12_192_22k', 'large', 12, 192),
    _v2('swinv2_large_patch4_window12to16_192to256_22kto1k_ft', 'large', 16, 256, (12, 192)),
    _v2('swinv2_large_patch4_window12to24_192to384_22kto1k_ft', 'large', 24, 384, (12, 192)),
    _coco('mask_rcnn_swin_tiny_patch4_window7_1x', 'v1.0.3', 'tiny', 'mask_rcnn_swin_t'),
    _coco('mask_rcnn_swin_tiny_patch4_window7', 'v1.0.2', 'tiny', 'mask_rcnn_swin_t_3x'),
    _coco('mask_rcnn_swin_small_patch4_window7', 'v1.0.2', 'small', 'mask_rcnn_swin_s_3x'),
    _coco('cascade_mask_rcnn_swin_tiny_patch4_window7_1x', 'v1.0.3', 'tiny', 'cascade_mask_rcnn_swin_t'),
    _coco('cascade_mask_rcnn_swin_tiny_patch4_window7', 'v1.0.2', 'tiny', 'cascade_mask_rcnn_swin_t_3x'),
    _coco('cascade_mask_rcnn_swin_small_patch4_window7', 'v1.0.2', 'small', 'cascade_mask_rcnn_swin_s_3x'),
    _coco('cascade_mask_rcnn_swin_base_patch4_window7', 'v1.0.2', 'base', 'cascade_mask_rcnn_swin_b_3x'),
    _coco('reppointsv2_swin_tiny_patch4_window7_3x', 'v1.0.9', 'tiny'),
    _coco('mask_reppointsv2_swin_tiny_patch4_window7_3x', 'v1.0.9', 'tiny'),
    _coco('moby_mask_rcnn_swin_tiny_patch4_window7_1x', 'v1.0.3', 'tiny'),
    _coco('moby_mask_rcnn_swin_tiny_patch4_window7_3x', 'v1.0.3', 'tiny'),
    _coco('moby_cascade_mask_rcnn_swin_tiny_patch4_window7_1x', 'v1.0.3', 'tiny'),
    _coco('moby_cascade_mask_rcnn_swin_tiny_patch4_window7_3x', 'v1.0.3', 'tiny'),
    _ade20k('upernet_swin_tiny_patch4_window7_512x512', 'v1.0.1', 'tiny', 'upernet_swin_t'),
    _ade20k('upernet_swin_small_patch4_window7_512x512', 'v1.0.1', 'small', 'upernet_swin_s'),
    _ade20k('upernet_swin_base_patch4_window7_512x512', 'v1.0.1', 'base', 'upernet_swin_b'),
    _ade20k('moby_upernet_swin_tiny_patch4_window7_512x512', 'v1.0.3', 'tiny'),
)
BY_URL = {weights.url: weights for weights in OFFICIAL}
BY_RECIPE = {weights.recipe: weights for weights in OFFICIAL if weights.recipe}
