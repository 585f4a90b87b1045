import csv
import json
import sys
from pathlib import Path

model_folder, data, report = map(Path, sys.argv[1:])
model = json.loads((model_folder / "model.json").read_text())
with (data / "part.csv").open(newline="") as stream:
    rows = list(csv.reader(stream))


def predict(row):
    scores = [
        sum(c * float(v) for c, v in zip(coef, row[:-1], strict=True)) + bias
        for coef, bias in zip(model["coef"], model["intercept"], strict=True)
    ]
    return model["classes"][scores.index(max(scores))]


report.write_text(json.dumps({"rows": len(rows), "accuracy": sum(predict(r) == r[-1] for r in rows) / len(rows)}))
