"""The house rules that a program can check: who imports whom, how long files are, what the package loads."""

import ast
import graphlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'swin_mm'
FILE_LINES, FUNCTION_LINES = 250, 40
LONGER = {'backward_queries': 53}  # a kernel of Triton's: its tiles live in one function
OURS = sorted(path for folder in ('swin_mm', 'tools', 'demo') for path in (ROOT / folder).rglob('*.py'))

# Who may import whom, by floors: nothing imports a higher floor, and rooms of one floor do not import each other, but
# for `registry`, which stands on no other room. `docs/architecture.md` draws it.
FLOORS = (
    {'errors', 'registry', 'kernels'},
    {'checkpoints', 'recipes', 'detectors'},
    {'backbone', 'compat', 'engine', 'datasets', 'inference'},
    {'export', 'benchmark', 'explain', 'doctor'},
    {'commands'},
    {'__main__'},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms} | {'__init__': 3}
# What a room may import of ours; None: any room of a lower floor. Nothing imports `commands` but the command line.
ROOMS = {
    '__init__': {'backbone', 'inference', 'compat'},
    '__main__': {'__init__', 'commands'},
    'errors': set(),
    'registry': set(),
    'kernels': set(),
    'checkpoints': {'errors'},
    'recipes': {'errors'},
    'detectors': {'registry'},
    'backbone': {'kernels', 'checkpoints', 'registry', 'errors'},
    'compat': {'checkpoints', 'recipes', 'errors'},
    'engine': {'checkpoints', 'recipes', 'registry', 'errors'},
    'datasets': {'registry', 'recipes', 'errors'},
    'inference': {'checkpoints', 'recipes', 'errors'},
    'benchmark': {'inference', 'backbone', 'kernels', 'checkpoints', 'recipes', 'errors'},
    'explain': {'inference', 'backbone', 'kernels', 'checkpoints', 'recipes', 'errors'},
    'doctor': None,
    'commands': None,
}
# Packages besides the standard library, wherever in a file they are imported; None: any.
PACKAGES = {
    'errors': set(),
    'registry': {'mmengine'},
    'kernels': {'torch', 'triton'},
    'recipes': {'mmengine'},
    'checkpoints': {'torch', 'safetensors', 'huggingface_hub', 'mmengine'},
    'backbone': {'torch', 'mmengine'},
    'compat': {'torch', 'torchvision', 'numpy', 'yaml', 'mmcv', 'mmengine'},
    '__init__': set(),
    '__main__': set(),
}
# These have files that import mmdet or mmseg at their top, and which only the registry or a function opens.
OPENMMLAB_ROOMS = {'datasets', 'detectors', 'engine', 'inference', 'benchmark', 'commands', 'doctor'}
OPENMMLAB_MODELS = {'mmdet', 'mmseg'}
MOST_ROOMS = 18


def part_of(path: Path) -> str:
    """The first name below ``swin_mm``: a folder or a file."""
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names that a file imports, and whether it does so at import time (not inside a function)."""
    package = path.relative_to(ROOT).with_suffix('').parts[:-1]

    def visit(node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = list(package[: len(package) - child.level + 1]) if child.level else []
                module = '.'.join([*base, *([child.module] if child.module else [])])
                # `from . import x` names modules: x is what is imported
                yield from ((f'{module}.{alias.name}', at_import) for alias in child.names)
            else:
                yield from visit(child, at_import and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    yield from visit(ast.parse(path.read_text()), True)


def unit(name: str) -> str:
    """``torch`` of ``torch.nn``, ``swin_mm.backbone`` of ``swin_mm.backbone.layers.Stage``."""
    parts = name.split('.')
    return '.'.join(parts[:2]) if parts[0] == 'swin_mm' else parts[0]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('*.py')), ids=relative)
def test_who_imports_whom(path):
    room = part_of(path)
    assert room in ROOMS, f'{room} is a new room: say in {Path(__file__).name} on which floor it is'
    found = {unit(name) for name, _ in imports(path)} - set(sys.stdlib_module_names)
    ours = {name.partition('.')[2] or '__init__' for name in found if name.partition('.')[0] == 'swin_mm'} - {room}
    rooms = {name if name in ROOMS else '__init__' for name in ours}  # `from swin_mm import SwinTransformer`
    if ROOMS[room] is not None:
        assert rooms - {room} <= ROOMS[room]
    assert not rooms & {'commands', '__main__'} or room in ('commands', '__main__'), 'nothing imports commands'
    assert all(FLOOR[other] < FLOOR[room] for other in rooms - {room, '__init__'}), 'no arrow upwards'
    others = {name for name in found if name.partition('.')[0] != 'swin_mm'}
    if PACKAGES.get(room) is not None:
        assert others <= PACKAGES[room]
    assert not others & {'tools', 'demo', 'tests', 'configs'}, 'scripts import the package, never the other way round'


def test_no_file_imports_itself_by_a_detour():
    """At import time; a kernel of Triton's that is imported when it is launched counts as well."""
    files = {module_of(path): path for path in PACKAGE.rglob('*.py')}
    arrows = {}
    for name, path in files.items():
        wanted = {n for n, _ in imports(path) if n.startswith('swin_mm')}
        found = {known for known in (n if n in files else n.rpartition('.')[0] for n in wanted) if known in files}
        arrows[name] = found - {name} - {parent for parent in found if name.startswith(f'{parent}.')}
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError


def module_of(path: Path) -> str:
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


def test_the_house_is_small_enough_to_be_looked_at():
    rooms = {
        path.name for path in PACKAGE.iterdir() if path.suffix == '.py' or (path.is_dir() and any(path.glob('*.py')))
    }
    assert len(rooms) <= MOST_ROOMS
    assert {name.removesuffix('.py') for name in rooms} <= set(ROOMS)


def test_mmdet_and_mmseg_are_imported_late():
    """Inside functions, or at the top of a file that nothing of ours imports at the top: the registry asks for it."""
    early = {path: [name for name, at_import in imports(path) if at_import] for path in PACKAGE.rglob('*.py')}
    heavy = {path for path, names in early.items() if OPENMMLAB_MODELS & set(map(unit, names))}
    assert {part_of(path) for path in heavy} <= OPENMMLAB_ROOMS
    for path in heavy:
        module = module_of(path)
        importers = [relative(p) for p, names in early.items() for n in names if f'{n}.'.startswith(f'{module}.')]
        assert importers == [], module


def test_the_package_imports_lightly():
    """mmcv, mmdet and mmseg load when a config needs them, and not before."""
    modules = ['swin_mm', 'swin_mm.registry', 'swin_mm.datasets.shapes']
    code = f'import sys, {", ".join(modules)}; print(*[m for m in ("mmcv", "mmdet", "mmseg") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize('path', OURS, ids=relative)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= LONGER.get(node.name, FUNCTION_LINES), node.name


@pytest.mark.parametrize('path', OURS, ids=relative)
def test_names_say_something(path):
    banned = {'utils', 'util', 'common', 'core', 'base', 'helpers', 'misc'}
    assert not banned & set(path.relative_to(ROOT).with_suffix('').parts)


@pytest.mark.parametrize('path', OURS, ids=relative)
def test_files_and_public_functions_say_what_they_are_for(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith('_'):
            assert ast.get_docstring(node) or len(ast.unparse(node).splitlines()) < 10, node.name


def test_warnings_of_the_package_are_errors():
    """The filter in pyproject.toml: it means submodules too, and nobody else's warnings."""
    with pytest.raises(UserWarning, match='probe'):
        warnings.warn_explicit('probe', UserWarning, 'probe.py', 1, module='swin_mm.kernels.sdpa')
    with pytest.warns(UserWarning, match='probe'):
        warnings.warn_explicit('probe', UserWarning, 'probe.py', 1, module='mmdet.models')
