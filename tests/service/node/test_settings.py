"""The settings of a node: what is refused, and how paths and addresses are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinslice.errors import UsageError
from thinslice.recipes.series_rules import SeriesFacts, first_fitting
from thinslice.service.node.settings import NodeSettings, is_within, read_node_settings

LEAST = 'data = "data"\n[[caller]]\nae_title = "CT1"\n'
PACS = '[[target]]\nname = "pacs"\nae_title = "PACS"\nhost = "pacs.example"\nport = 104\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_least_settings_take_every_series_and_place_data_beside_the_file(tmp_path: Path) -> None:
    settings = read_node_settings(written(tmp_path, LEAST))
    assert settings.data == tmp_path / "data"
    chosen = first_fitting(settings.rules, SeriesFacts())
    assert chosen is not None and chosen.take
    assert settings.titles == ("CT1",)


def test_targets_may_call_back_but_are_no_callers(tmp_path: Path) -> None:
    settings = read_node_settings(written(tmp_path, LEAST + PACS))
    assert settings.titles == ("CT1", "PACS")
    assert settings.caller("PACS", "127.0.0.1") is None


def test_a_caller_is_known_by_title_and_address(tmp_path: Path) -> None:
    settings = read_node_settings(written(tmp_path, LEAST + 'address = "10.1.0.0/16"\n'))
    assert settings.caller("CT1", "10.1.9.9") is not None
    assert settings.caller("CT1", "10.2.9.9") is None
    assert settings.caller("CT2", "10.1.9.9") is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('data = "data"\n', "caller"),
        (LEAST + "surprise = 1\n", "surprise"),
        (LEAST.replace("CT1", "a title that is far too long"), "AE title"),
        (LEAST.replace("CT1", "CT\\\\1"), "AE title"),
        (LEAST + 'address = "10.1.2"\n', "address"),
        (LEAST + '[[target]]\nname = "pacs"\n', "ae_title, host and port, or a url"),
        (LEAST + PACS + 'url = "https://pacs.example"\n', "not both"),
        (LEAST + PACS + PACS, "same name"),
        (LEAST + '[[target]]\nname = "../pacs"\nurl = "https://pacs.example"\n', "name becomes a file"),
        (LEAST + '[[target]]\nname = "pacs"\nurl = "ftp://pacs.example"\n', "https"),
        (LEAST + PACS + 'token_file = "token"\n', "go with a url"),
        (LEAST + '[[rule]]\nname = "one"\n[rule.run]\nformat = "nifti"\n', "DICOM"),
        (LEAST + '[[rule]]\nname = "one"\n[[rule]]\nname = "one"\n', "one"),
        (LEAST + '[tls]\ncertificate = "none.pem"\nkey = "none.key"\n', "there is no file"),
        ("port = 99999\n" + LEAST, "port"),
        ("stable_s = 0\n" + LEAST, "stable_s"),
        ("port = = 1\n", "TOML"),
    ],
)
def test_wrong_settings_are_refused_with_the_key_that_is_wrong(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(UsageError, match=r"node\.toml") as refused:
        read_node_settings(written(tmp_path, text))
    assert part in str(refused.value)


def test_settings_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    settings = read_node_settings(written(tmp_path, LEAST + PACS + '[[rule]]\nname = "one"\nrun.factor = 3\n'))
    assert NodeSettings.model_validate(settings.model_dump(mode="json", by_alias=True)) == settings


def test_an_address_that_is_none_lies_nowhere() -> None:
    assert not is_within("localhost", ["0.0.0.0/0"])
    assert is_within("::1", ["::1"])
