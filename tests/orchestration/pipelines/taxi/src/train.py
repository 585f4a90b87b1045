import argparse
import csv
import json
from pathlib import Path

from sklearn.linear_model import LinearRegression, Ridge

parser = argparse.ArgumentParser()
parser.add_argument("--rides", type=Path)
parser.add_argument("--kind")
parser.add_argument("--alpha", type=float, default=None)
parser.add_argument("--model", type=Path)
args = parser.parse_args()
with (args.rides / "rides.csv").open(newline="") as stream:
    rows = list(csv.DictReader(stream))
x = [[float(row["distance"]), float(row["hour"])] for row in rows]
y = [float(row["cost"]) for row in rows]
model = LinearRegression() if args.kind == "ols" else Ridge(alpha=args.alpha or 1.0)
model.fit(x, y)
out = {"kind": args.kind, "alpha": args.alpha, "coef": list(model.coef_), "r2": model.score(x, y)}
(args.model / "model.json").write_text(json.dumps(out))
