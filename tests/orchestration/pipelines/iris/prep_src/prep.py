import argparse
import csv
import random
from pathlib import Path

from helpers import read

parser = argparse.ArgumentParser()
for name in ("raw_data", "train", "test"):
    parser.add_argument(f"--{name}", type=Path)
parser.add_argument("--test_share", type=float)
parser.add_argument("--seed", type=int)
args = parser.parse_args()

rows = [row for file in sorted(args.raw_data.glob("*.csv")) for row in read(file)]
random.Random(args.seed).shuffle(rows)
cut = int(len(rows) * args.test_share)
for folder, part in ((args.test, rows[:cut]), (args.train, rows[cut:])):
    with (folder / "part.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(part)
print(f"{len(rows)} rows")
