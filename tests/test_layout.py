"""The house rules that a program can check: who imports whom, how long files are, what the package loads."""

import ast
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'swin_mm'
FILE_LINES, FUNCTION_LINES = 250, 60
OURS = sorted(path for folder in ('swin_mm', 'tools', 'demo') for path in (ROOT / folder).rglob('*.py'))

# What a part may import besides the standard library: other packages, and other parts of this one.
# `compat` stands below everything: it patches what the rest builds upon.
ALLOWED = {
    'kernels': {'torch', 'triton'},
    'checkpoints': {'torch', 'safetensors'},
    'registry': {'mmengine'},
    'backbone': {
        *('torch', 'mmengine'),
        *(f'swin_mm.{part}' for part in ('kernels', 'checkpoints', 'registry')),
    },
    'compat': {'torch', 'torchvision', 'numpy', 'yaml', 'mmcv', 'mmengine', 'swin_mm.checkpoints'},
    'images': {'numpy', 'PIL', 'mmcv'},
    '__init__': {'swin_mm.compat', 'swin_mm.backbone'},
}
# These reach mmdet and mmseg, so nothing above may reach them.
OUTER = {'datasets', 'doctor', 'engine', 'inference', 'loading', 'tta'}
OPENMMLAB_MODELS = {'mmdet', 'mmseg'}


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
    """``torch`` of ``torch.nn``, ``swin_mm.backbone.layers`` of ``swin_mm.backbone.layers.Stage``."""
    parts = name.split('.')
    return '.'.join(parts[:2]) if parts[0] == 'swin_mm' else parts[0]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('*.py')), ids=relative)
def test_who_imports_whom(path):
    part = part_of(path)
    assert part in ALLOWED or part in OUTER, f'{part} is new: say in {Path(__file__).name} what it may import'
    found = {unit(name) for name, _ in imports(path)} - set(sys.stdlib_module_names) - {f'swin_mm.{part}'}
    if part in ALLOWED:
        assert found - ALLOWED[part] == set()
    assert not found & {'tools', 'demo', 'tests', 'configs'}, 'scripts import the package, never the other way round'


def test_mmdet_and_mmseg_are_imported_late():
    """Inside functions, or at the top of a file that nothing of ours imports at the top: the registry asks for it."""
    early = {path: [name for name, at_import in imports(path) if at_import] for path in PACKAGE.rglob('*.py')}
    heavy = {path for path, names in early.items() if OPENMMLAB_MODELS & set(map(unit, names))}
    assert {part_of(path) for path in heavy} <= OUTER
    for path in heavy:
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
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
            assert node.end_lineno - node.lineno + 1 <= FUNCTION_LINES, node.name


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
