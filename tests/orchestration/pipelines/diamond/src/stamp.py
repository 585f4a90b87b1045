import sys
import time
from pathlib import Path

folder, wait, name = sys.argv[1:]
Path(folder, f"{name}.txt").write_text(str(time.monotonic()))
time.sleep(float(wait))
