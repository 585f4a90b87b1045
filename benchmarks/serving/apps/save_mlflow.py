"""Saves a booster as an MLflow model: save_mlflow.py BOOSTER FOLDER."""

from __future__ import annotations

import sys

import lightgbm
import mlflow.lightgbm
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

booster = lightgbm.Booster(model_file=sys.argv[1])
inputs = Schema([ColSpec("double", name) for name in booster.feature_name()])
signature = ModelSignature(inputs, Schema([ColSpec("double")]))
mlflow.lightgbm.save_model(booster, sys.argv[2], signature=signature, pip_requirements=["lightgbm", "pandas"])
