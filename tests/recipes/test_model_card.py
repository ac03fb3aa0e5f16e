"""The schema of model cards: the embedded weights fit it, and its page is made from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from thinslice.models import catalog, checkpoint
from thinslice.recipes.model_card import read_card

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(catalog.WEIGHTS_FOLDER.glob("*.safetensors")), ids=lambda path: path.stem)
def test_embedded_weights_state_what_the_schema_describes_and_nothing_else(path: Path) -> None:
    card = read_card(checkpoint.inspect(path).card)
    assert card.model_extra == {} and card.name == path.stem and card.recipe_sha256 is not None
    assert card.limits and card.data and card.weights_licence == "Apache-2.0" and card.scores is not None
    assert all(row.psnr > 0 and row.model_extra == {} for row in card.scores.rows)


@pytest.mark.parametrize(
    "card", [{}, {"name": 1}, {"name": "a", "steps": "many"}, {"name": "a", "recipe_sha256": "AB"}]
)
def test_values_of_other_types_are_refused(card: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_card(card)


def test_the_page_is_made_from_the_schema() -> None:
    spec = importlib.util.spec_from_file_location("generate_docs", PROJECT / "tools" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (PROJECT / "docs" / "reference" / "model-cards.md").read_text(encoding="utf-8")
    assert page == tool.model_cards(), "python tools/generate_docs.py"
