"""The files for those who carry on: what they name is there, and what stands in two places is the same in both."""

import re
from pathlib import Path

import pytest
import yaml

import swin_mm

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))
TEXTS = [ROOT / name for name in ('CONTRIBUTING.md', '.github/ISSUE_TEMPLATE/bug.yml', '.pre-commit-config.yaml')]
NAMED = re.compile(r'\b(?:configs|tools|demo|tests|docs)/[\w/.-]*\w')


@pytest.mark.parametrize('path', [*WORKFLOWS, *TEXTS], ids=lambda path: path.name)
def test_what_it_names_is_there(path):
    assert [name for name in NAMED.findall(path.read_text()) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read(path):
    assert yaml.safe_load(path.read_text())['permissions'] == {'contents': 'read'}


def test_ruff_is_the_same_before_a_commit_and_in_the_suite():
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos']
    (revision,) = [repository['rev'] for repository in hooks if 'ruff' in repository['repo']]
    assert f'ruff=={revision.removeprefix("v")}\n' in (ROOT / 'requirements.txt').read_text()


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == swin_mm.__version__
    assert f'license = "{citation["license"]}"' in (ROOT / 'pyproject.toml').read_text()
