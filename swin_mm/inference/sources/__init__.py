"""Where images come from: files, folders, glob patterns, URLs, lists and standard input; how results are named.

for source, found in results_of(model, Sources(['photos', 'list.txt', 'https://example.org/street.jpg'])):
    ...
"""

from .files import find_images
from .names import UniqueNames
from .sources import Source, Sources, part_of, results_of

__all__ = ['Source', 'Sources', 'UniqueNames', 'find_images', 'part_of', 'results_of']
