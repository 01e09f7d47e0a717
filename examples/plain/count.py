"""Counts the words of files in workers, and prints the sum.

python count.py FILE...
"""

import sys
from pathlib import Path

from delayed import TaskFailed
from words import count_words

total = 0
handles = {path: count_words.delay(str(Path(path).absolute())) for path in sys.argv[1:]}  # all of them wait in Redis now
for path, handle in handles.items():
    try:
        count = handle.result(timeout=60)
    except TaskFailed as error:  # it was tried four times; `delayed dead show words ID` has the traceback
        print(f"{path}: {error.message}")
    else:
        print(f"{path}: {count} words")
        total += count
print(f"total: {total}")
