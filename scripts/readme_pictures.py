"""Draw the picture of README.md that shows what the models that ship with narrows do with digits.

python scripts/readme_pictures.py            # writes .github/pictures/digits.png; seconds
"""

from __future__ import annotations

from pathlib import Path

import torch

import narrows
from narrows.data import DataModule, Digits
from narrows.drawing.canvas import image_grid, save

PLACE = Path(__file__).parents[1] / ".github" / "pictures" / "digits.png"
COLUMNS = 12
NAMES = {"digits-vae": "8 numbers", "digits-vq": "a map of codes", "digits-sae": "8 of 128 features"}
"""The models, and what their latent is."""


def main() -> None:
    data = DataModule(Digits(), binarise="none")
    digits = next(iter(data.ordered_loader("test"))).x[:COLUMNS]
    models = {name: narrows.load(name) for name in NAMES}
    rows = [("held-out digits", digits.numpy())]
    rows += [(f"{name}, {NAMES[name]}", model.reconstruct(digits).numpy()) for name, model in models.items()]
    for name in ("digits-vae", "digits-vq"):
        torch.manual_seed(0)
        rows.append((f"{name}, drawn", models[name].sample(COLUMNS).clamp(0, 1).numpy()))
    save(image_grid(rows, "Digits, rebuilt and drawn by the models that ship with narrows", (0.0, 1.0)), PLACE)
    print(PLACE)


if __name__ == "__main__":
    main()
