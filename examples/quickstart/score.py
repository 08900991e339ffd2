"""What the model server runs: `init` once per process, `run` for every POST to /score.

Takes {"data": [[square metres, rooms], ...]}, answers {"rents": [...]} in the same order. train.py made the weights.
"""

import json
import os
from pathlib import Path

import numpy as np

weights = np.zeros(3)


def init():
    global weights
    saved = Path(os.environ["AZUREML_MODEL_DIR"]) / "rents" / "1" / "weights.npz"
    weights = np.load(saved)["weights"]


def run(raw):
    flats = np.asarray(json.loads(raw)["data"], dtype=float)
    features = np.column_stack([np.ones(len(flats)), flats])
    return {"rents": (features @ weights).round(2).tolist()}
