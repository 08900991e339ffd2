"""Fits the quick start's model: the rent of a flat from its size and its rooms, by least squares.

Writes model/rents/1/weights.npz: name and version, the layout the model server expects below its model folder.
The flats are made up: rent = 200 + 11 per square metre + 35 per room, give or take 20. score.py uses what is saved.
"""

from pathlib import Path

import numpy as np

TARGET = Path(__file__).with_name("model") / "rents" / "1" / "weights.npz"

rng = np.random.default_rng(seed=7)
size = rng.uniform(20, 140, 500)
rooms = np.ceil(size / 28)
rent = 200 + 11 * size + 35 * rooms + rng.normal(0, 20, 500)

features = np.column_stack([np.ones(500), size, rooms])
weights, *_ = np.linalg.lstsq(features, rent, rcond=None)

TARGET.parent.mkdir(parents=True, exist_ok=True)
np.savez(TARGET, weights=weights)
print("rent = {:.0f} + {:.2f} * square metres + {:.1f} * rooms".format(*weights))
