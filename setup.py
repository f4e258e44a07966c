"""Puts ``configs/`` into the wheel, as ``swin_mm/.mim/configs``, where mmengine looks; the rest is pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Builds the package, and copies the recipes into it; an editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, 'swin_mm', '.mim', 'configs')
            shutil.copytree('configs', target, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))


setup(cmdclass={'build_py': BuildWithConfigs})
