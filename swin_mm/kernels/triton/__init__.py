"""Window attention in Triton: ``launch`` decides and starts, ``one_tile`` and ``many_tiles`` are the kernels."""

import os
from importlib.util import find_spec

INSTALLED = find_spec('triton') is not None
# As Triton reads it. Kernels then run on the CPU, one program after the other.
INTERPRETED = os.environ.get('TRITON_INTERPRET', '0').lower() in ('1', 'true', 'on', 'yes', 'y')
