"""``train`` and ``test`` take what mmdet's scripts of the same name take."""

import argparse
import ast
import importlib.util
from importlib import import_module
from pathlib import Path

import pytest

from swin_mm.checkpoints.downloads import cached
from swin_mm.checkpoints.published import OFFICIAL
from swin_mm.commands import launch


def flags_of_mmdet(name):
    """(option strings or positional, keywords that are plain values) of every argument of mmdet's script."""
    folder = Path(importlib.util.find_spec('mmdet').origin).parent / '.mim/tools'
    if not folder.is_dir():
        pytest.skip(f'mmdet was installed without its scripts, {folder}')
    for node in ast.walk(ast.parse((folder / name).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', None) == 'add_argument':
            keywords = {k.arg: k.value for k in node.keywords}
            values = {k: ast.literal_eval(v) for k, v in keywords.items() if k in ('nargs', 'choices', 'const')}
            yield [ast.literal_eval(arg) for arg in node.args], values


@pytest.mark.parametrize('name', ['train.py', 'test.py'])
def test_arguments_of_mmdet_are_taken_with_their_values(name, monkeypatch):
    main = import_module(f'swin_mm.commands.{name.removesuffix(".py")}').main
    caught = []

    def catch(self, *_):
        caught.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', catch)
    with pytest.raises(KeyboardInterrupt):
        main([])
    ours = {flag: action for action in caught[0]._actions for flag in action.option_strings or [action.dest]}

    theirs = list(flags_of_mmdet(name))
    assert len(theirs) >= 7
    for flags, values in theirs:
        for flag in flags:
            assert flag in ours
            for key, value in values.items():
                assert getattr(ours[flag], key) == value, (flag, key)
    positionals = [action.dest for action in caught[0]._actions if not action.option_strings]
    assert positionals == [flags[0] for flags, _ in theirs if not flags[0].startswith('-')]


def test_the_flag_of_the_cache_moves_downloads(monkeypatch):
    monkeypatch.setenv('SWIN_MM_CACHE', 'before')
    launch.make_parser('').parse_args(['mask_rcnn_swin_t', '--cache', 'after'])
    assert cached(OFFICIAL[0].url) == Path('after', f'{OFFICIAL[0].name}.pth').absolute()
