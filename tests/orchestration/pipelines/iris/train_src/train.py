import argparse
import csv
import json
from pathlib import Path

from sklearn.linear_model import LogisticRegression

parser = argparse.ArgumentParser()
parser.add_argument("--training_data", type=Path)
parser.add_argument("--C", type=float)
parser.add_argument("--fit_intercept", type=lambda text: text == "True")
parser.add_argument("--solver")
parser.add_argument("--model_output", type=Path)
args = parser.parse_args()

with (args.training_data / "part.csv").open(newline="") as stream:
    rows = list(csv.reader(stream))
x = [[float(v) for v in row[:-1]] for row in rows]
model = LogisticRegression(C=args.C, fit_intercept=args.fit_intercept, solver=args.solver, max_iter=500)
model.fit(x, [row[-1] for row in rows])
(args.model_output / "MLmodel").write_text("flavors:\n  coefficients:\n    data: model.json\n")
(args.model_output / "model.json").write_text(
    json.dumps({"classes": list(model.classes_), "coef": model.coef_.tolist(), "intercept": model.intercept_.tolist()})
)
