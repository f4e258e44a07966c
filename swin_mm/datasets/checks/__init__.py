"""Finds what is wrong with the data sets of a config before a training."""

from .checking import check_data
from .findings import Findings
from .report import write_report

__all__ = ['Findings', 'check_data', 'write_report']
