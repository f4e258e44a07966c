"""``verify``: every recipe's numbers are read, and weights that miss one give status 1."""

import re

import pytest
from samples import tiny_segmentation

from swin_mm.checkpoints.published import RELEASES
from swin_mm.commands import test as test_command
from swin_mm.commands import verify
from swin_mm.commands.verify import Figure, main, read_figures
from swin_mm.errors import PreflightError
from swin_mm.recipes import known_recipes

OFFICIAL = 'mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_1x_coco'


def write_recipe(folder, base, expected: str):
    path = folder / 'mine.py'
    path.write_text(f'"""Mine.\n\nExpected: {expected}; here.\nFrom: nobody.\n"""\n_base_ = {str(base)!r}\n')
    return path


@pytest.mark.parametrize('path', known_recipes(), ids=lambda path: path.stem)
def test_the_numbers_of_every_recipe_are_read(path):
    if 'Expected: not known;' in path.read_text():
        with pytest.raises(PreflightError, match=rf'{path.name}: no number was published'):
            read_figures(path)
        return
    figures = read_figures(path)
    line = re.search(r'Expected: ([^;]+);', path.read_text())[1]
    assert [number for f in figures for number in dict.fromkeys((f.low, f.high))] == [
        float(number) for number in re.findall(r'(?<![\w.])\d+\.\d+', line)
    ]


def test_numbers_have_their_metric_and_protocol(root):
    assert read_figures(root / 'configs/mask_rcnn_swin_t.py') == [
        Figure('box AP', 43.7, 43.7),
        Figure('mask AP', 39.8, 39.8),
    ]
    assert read_figures(root / 'configs/upernet_swin_t.py') == [
        Figure('mIoU', 44.51, 44.51),
        Figure('mIoU', 45.81, 45.81, several_scales=True),
    ]
    assert read_figures(root / 'configs/upernet_swin_pico_shapes.py') == [Figure('mIoU', 0.82, 0.85)]


@pytest.mark.parametrize('expected', ['box AP high', 'top1 81.2', 'box AP 43.7 mask AP 39.8', 'box AP 40 to'])
def test_what_is_no_number_of_a_metric_is_named(expected, tmp_path):
    with pytest.raises(PreflightError, match=rf"mine\.py: 'Expected:' must list .* got '{expected}'"):
        read_figures(write_recipe(tmp_path, 'any.py', expected))


@pytest.mark.parametrize(
    ('low', 'high', 'percent', 'holds'),
    [
        (43.7, 43.7, 43.6, True),
        (43.7, 43.7, 43.8, True),
        (43.7, 43.7, 43.59, False),
        (43.7, 43.7, 43.81, False),
        (0.95, 0.97, 96.0, True),
        (0.95, 0.97, 94.9, True),
        (0.95, 0.97, 94.8, False),
        (0.95, 0.97, 97.1, True),
        (0.95, 0.97, 97.2, False),
        (43.7, 43.7, float('nan'), False),
        (43.7, 43.7, None, False),
    ],
)
def test_a_metric_may_differ_by_a_tenth_of_a_point(low, high, percent, holds):
    assert Figure('box AP', low, high).holds(percent) is holds


@pytest.mark.parametrize(
    ('metric', 'percent'),
    [('box AP', 43.7), ('mask AP', 39.8), ('box AP50', 66.6), ('mask AP50', 63.3), ('mIoU', 44.51)],
)
def test_a_metric_is_read_from_its_key_in_percent(metric, percent):
    """Under the keys and in the units of mmdet's CocoMetric and mmseg's IoUMetric."""
    results = {'bbox_mAP': 0.437, 'segm_mAP': 0.398, 'bbox_mAP_50': 0.666, 'segm_mAP_50': 0.633}
    results = {f'coco/{key}': value for key, value in results.items()} | {'mIoU': 44.51, 'mAcc': 55.0}
    assert Figure(metric, percent, percent).measured(results) == pytest.approx(percent)


@pytest.mark.parametrize(
    ('expected', 'options', 'status', 'verdicts'),
    [
        ('box AP 0 to 100, mask AP 0 to 100', [], 0, ['ok', 'ok']),
        ('box AP 0 to 100, mask AP 99.9', [], 1, ['ok', 'differs']),
        ('box AP 0 to 100, mask AP 0 to 100', ['test_evaluator.metric=bbox'], 1, ['ok', 'not measured']),
    ],
)
def test_a_detector_is_tested_and_compared(tiny, tmp_path, monkeypatch, capsys, expected, options, status, verdicts):
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path, tiny.config, expected)
    words = [str(recipe), str(tiny.checkpoint), '--cfg-options', f'data_root={tiny.data}', *options]
    assert main(words) == status
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split('  ')[0].strip() for line in lines] == ['box AP', 'mask AP']
    assert [line.rpartition('  ')[2] for line in lines] == verdicts


def test_a_segmentor_is_tested_at_one_scale_and_at_several(tmp_path, tmp_path_factory, monkeypatch, capsys):
    tiny = tiny_segmentation.trained(tmp_path_factory.getbasetemp())
    monkeypatch.chdir(tmp_path)
    words = [str(tiny.checkpoint), '--cfg-options', f'data_root={tiny.data}']
    one, several = (
        test_command.main([str(tiny.config), words[0], *flags, *words[1:]])['mIoU'] for flags in ([], ['--tta'])
    )
    assert one != several
    recipe = write_recipe(tmp_path, tiny.config, f'mIoU {one}, with several scales and flip {several}')
    assert main([str(recipe), *words]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f'mIoU                                published {one}  measured {one:.2f}  ok',
        f'mIoU, with several scales and flip  published {several}  measured {several:.2f}  ok',
    ]


@pytest.mark.parametrize(
    ('words', 'recipe', 'checkpoint'),
    [
        (['mask_rcnn_swin_t'], 'mask_rcnn_swin_t', f'{RELEASES}/v1.0.3/mask_rcnn_swin_tiny_patch4_window7_1x.pth'),
        ([OFFICIAL], 'mask_rcnn_swin_t', f'{RELEASES}/v1.0.3/mask_rcnn_swin_tiny_patch4_window7_1x.pth'),
        (
            ['mask_rcnn_swin_t', 'moby_mask_rcnn_swin_tiny_patch4_window7_1x'],
            'mask_rcnn_swin_t',
            f'{RELEASES}/v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_1x.pth',
        ),
        (['upernet_swin_l', 'https://host/l.pth'], 'upernet_swin_l', 'https://host/l.pth'),
    ],
)
def test_weights_are_the_official_ones_or_those_that_are_named(words, recipe, checkpoint, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(verify.test, 'main', lambda argv: asked.append(argv) or {})
    assert main(words) == 1
    assert asked[0] == [str(root / f'configs/{recipe}.py'), checkpoint]


def test_a_recipe_without_published_weights_needs_some():
    with pytest.raises(PreflightError, match='no weights are published for upernet_swin_l: name a checkpoint'):
        main(['upernet_swin_l'])


def test_a_config_without_numbers_is_named(tiny):
    with pytest.raises(PreflightError, match=r"tiny\.py: the docstring of a recipe must say 'Expected: "):
        main([str(tiny.config), str(tiny.checkpoint)])
