"""Keys under their old spelling read to the same values, and no renaming changes a digest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from thinslice.errors import UsageError
from thinslice.recipes import LossRecipe, TrainRecipe, overridden, read_any_suite, read_train_recipe
from thinslice.recipes.training import RENAMED

PROJECT = Path(__file__).parents[2]

DIGESTS = {
    "acvtt": "4dd69692c22410f23bebe7b3db135a39d5aa0ffb59e9d870edcb2ee260f5415a",
    "best": "00be37f90c140c6548516a646203c97bdffceff20117d5ce64b26095252e4c9d",
    "cthnet": "6059086ae99e677c3f4c887652de8675016c430679b36752cff81bcf21ed3ac4",
    "davsr": "f954d698ec2cb8fc4bfaa8316a0ebfa0f61df0b1b13e69f5ab41998d6e94206c",
    "default-deviation": "d67c26ebfd807be072bd016d5187ba1c460632c13c4f947d1558bcff9c7f23ad",
    "default": "6ea405f3e799bb3854fb5f554be18bee632a3ffa50e90b73f0f6a67cd792fac3",
    "fast": "8627a5f0ba9de2b4b188291489c4c16c37ab7e0e31c9fd238fdaa4299f98a5f8",
    "i3net": "a5695c2a6a49ad017b576476729ac9dfaac3f6eec8fb697d84f7ef8a8cf35e2e",
    "mpunet": "6b654e7aa73b7ca466a2ea7f8383037422da5125bad2b8171afc895dd8447fa6",
    "paper-tvsrn": "23921bf1a28efb55fd816aa8f139d03a3742460defc890feffed8f414ec74f52",
    "released-tvsrn": "35448214ff4672e3a49dfaef60d0fad07a131cfd5d1f8e86fe78c5c918a1df26",
    "resvox": "27682d1fca29f97904974fc1d8b51f10fb5a5c417bd21c6337cf9e34cfc81ca9",
    "saint": "b67f4f84c50b51b9989a7350a9d365045cc28d3895f939aa75919085d5d2378f",
    "thinnet": "8cbc48c5a45e09afb585eaf33b4fb4e353057c4ed95bf23f14338b79ced25d87",
    "tvsrn-encoder": "8f02f1d1892c432a35df2a674fc096f2244cc6682fcd641e1548dbdafd5f4e31",
    "tvsrn-no-tab": "160d8ba2001bf2f1f7e0b1e45f57600b3a8e05ab3b57483a87554447c9a6fca0",
    "tvsrn-simulated": "e24812bcda5605942c6372ac37584ff2e9b0e0f9b832ac30ded24bd9d0454400",
    "tvsrn-vit-encoder": "a1564d6603c2dbfe5bf4dea30da154fd45b5b61d6b37b53d8f63ea0d258659da",
    "ablations": "83853379d47a452d48604c58ae53527cc6ffd742c2ee4d0bc58f38d706aefb10",
    "domain-gap": "fa778d77494868cf70fe9e95b748f7ad833c1717b1eb37252efd55611bcbcc45",
    "mini-domain-gap": "5173f1b8ebedc4a355650a8931ee73035e000cb09ee7bed17d07bc7b9c66845a",
    "mini": "ad4029a19e74b5531868836adbb7ae9bd8ce883f54717805a37bf6bba98b7b81",
    "real-thin": "7e8b36abc9199b628bec032563793898fefe22fc8a277bac8204d0ceaa38f12d",
    "rplhr": "fb015f0415099d779875dd824f28e03eb43e60dc8006c2880c207e85d2c8ebbc",
}
"""Digests of the shipped recipes and suites before the first key was renamed (commit 56a1cbc). The suites ablations,
mini and rplhr have got a row of the released TVSRN, or its plan, since; mini and rplhr one of DP-NSL."""


def digest_of(path: Path) -> str:
    return (read_train_recipe if path.parent.name == "recipes" else read_any_suite)(path).digest


def in_old_spelling(text: str) -> str:
    for old, new in RENAMED.items():
        text = re.sub(rf"^{new} =", f"{old} =", text, flags=re.MULTILINE)
        text = re.sub(rf'([".]){new}"', rf'\1{old}"', text)
    return text


@pytest.mark.parametrize("name", DIGESTS)
def test_a_shipped_file_reads_to_the_values_it_had_in_either_spelling(name: str, tmp_path: Path) -> None:
    kind = "recipes" if (PROJECT / "recipes" / f"{name}.toml").is_file() else "suites"
    path = PROJECT / kind / f"{name}.toml"
    assert digest_of(path) == DIGESTS[name]
    old = tmp_path / kind / path.name
    old.parent.mkdir()
    old.write_text(in_old_spelling(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert digest_of(old) == DIGESTS[name]
    if kind == "recipes":
        assert read_train_recipe(old) == read_train_recipe(path)


def test_the_old_spellings_are_those_that_recipes_had() -> None:
    saint, mpunet = ((PROJECT / "recipes" / f"{name}.toml").read_text(encoding="utf-8") for name in ("saint", "mpunet"))
    assert 'trains = ["fusion."]' in in_old_spelling(saint) and "trainable" not in in_old_spelling(saint)
    assert "\nside = 1.0\n" in in_old_spelling(mpunet)


def test_overrides_take_either_spelling() -> None:
    recipe = TrainRecipe(name="x", network={"name": "saint"}, data=("a",), stages=({"name": "one", "steps": 5},))
    for side, trainable in (("loss.side", "stages.0.trains"), ("loss.side_outputs", "stages.0.trainable")):
        changed = overridden(recipe, {side: 0.5, trainable: ["fusion."]})
        assert changed.loss.side_outputs == 0.5 and changed.stages[0].trainable == ("fusion.",)
    old = overridden(recipe, {"stages": [{"name": "two", "steps": 3, "trains": ["head."]}], "stages.0.steps": 4})
    assert (old.stages[0].trainable, old.stages[0].steps) == (("head.",), 4)


def test_a_key_in_both_spellings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="side"):
        LossRecipe(side=1.0, side_outputs=0.5)
    path = tmp_path / "x.toml"
    path.write_text('name = "x"\ndata = ["a"]\ntrains = ["a."]\ntrainable = ["b."]\nnetwork = { name = "thinnet" }')
    with pytest.raises(UsageError, match="trains"):
        read_train_recipe(path)
