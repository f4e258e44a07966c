"""Finds what is wrong with the data sets of a config before a training, and mends copies of them."""

from .checking import check_data
from .findings import Findings
from .fixing import fix_data
from .report import write_report
from .screen import Screen

__all__ = ['Findings', 'Screen', 'check_data', 'fix_data', 'write_report']
