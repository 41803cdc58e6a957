"""Puts this folder on the path, so that tests in sub-folders can import the helpers next to it.

torch runs with one thread: its threads wait for each other busily, which on a machine with other work takes many times
as long, and tests that start processes inherit it.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Timings of one test are not to be found by another, nor by the user.
os.environ.setdefault("GRAPHPRUNE_NO_CACHE", "1")
