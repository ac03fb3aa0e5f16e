"""Parameters of the paper's ViT encoder (Table 1: 17.15 M) under every reading of its two sentences.

Stated: patches of 1 x 16 x 16, tokens of 512, eight standard transformer layers, sub-pixel up-sampling.

    python trials/vit_encoder.py
"""

from __future__ import annotations

from itertools import product

PUBLISHED = 17.15e6
TOKEN, LAYERS, PATCH, FACTOR, DEPTH = 512, 8, 16 * 16, 5, 4

ATTENTION = {"biases": 4 * TOKEN**2 + 4 * TOKEN, "no biases of the queries": 4 * TOKEN**2 + TOKEN}
PERCEPTRON = {f"perceptron x {n}": 2 * n * TOKEN**2 + (n + 1) * TOKEN for n in (1, 2, 3, 4)}
POSITIONS = {
    "no positions": 0,
    "positions in the plane": PATCH * TOKEN,
    "positions in the plane and by slice": (PATCH + DEPTH) * TOKEN,
    "positions by token": DEPTH * PATCH * TOKEN,
}
LAST_NORM = {"last norm": 2 * TOKEN, "no last norm": 0}
HEAD = {
    "a token to 5 x 16 x 16 voxels": (TOKEN + 1) * FACTOR * PATCH,
    "a token to 16 x 16 pixels, each to 5": (TOKEN + 1) * PATCH + 2 * FACTOR,
    "2 features a pixel, to 5": 3 * FACTOR,
    "a layer of 512, 2 features a pixel, to 5": (TOKEN + 1) * TOKEN + 3 * FACTOR,
    "all slices of a patch to 16 x 16 x 16 voxels": (DEPTH * TOKEN + 1) * ((DEPTH - 1) * FACTOR + 1) * PATCH,
}


def readings() -> list[tuple[int, tuple[str, ...]]]:
    """Parameters and names of the choices, nearest to the published count first."""
    found = []
    for chosen in product(ATTENTION.items(), PERCEPTRON.items(), POSITIONS.items(), LAST_NORM.items(), HEAD.items()):
        attention, perceptron, *others = (count for _, count in chosen)
        layers = LAYERS * (attention + perceptron + 4 * TOKEN)
        embedding = (PATCH + 1) * TOKEN
        found.append((layers + embedding + sum(others), tuple(name for name, _ in chosen)))
    return sorted(found, key=lambda each: abs(each[0] - PUBLISHED))


if __name__ == "__main__":
    every = readings()
    print(f"{len(every)} readings; nearest to {PUBLISHED / 1e6:.2f} M:")
    for parameters, names in every[:8]:
        print(f"{parameters / 1e6:8.3f} M  {', '.join(names)}")
