"""Weights files: saved weights load unchanged; damaged and foreign files are refused before any tensor is loaded."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from thinslice.errors import CheckpointError, DeviceError, UsageError
from thinslice.models import catalog, checkpoint
from thinslice.models.load import load_model
from thinslice.models.released.convert import convert
from thinslice.models.weights_header import LARGEST_HEADER_BYTES
from thinslice.system.files import sha256_of
from thinslice.system.resources import PeakMemory

CARD = {"name": "example", "licences": ["none"], "scores": {"psnr": 30.5}}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = catalog.build("tvsrn", encoder_blocks=1, through_plane_blocks=1, decoder_groups=1, depth=2, factor=2)
    path = tmp_path / "weights.safetensors"
    checkpoint.save(model, path, architecture="tvsrn", card=CARD)
    return path


@pytest.fixture
def no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when a tensor is loaded."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("tensors were loaded from a file that should have been refused first")

    monkeypatch.setattr(safetensors.torch, "load_file", refuse)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the thinslice metadata of a weights file and leave the rest."""
    header, tensors = header_of(path)
    meta = json.loads(header["__metadata__"]["thinslice"])
    change(meta)
    header["__metadata__"]["thinslice"] = json.dumps(meta)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)


def test_inspect_reads_architecture_config_card_and_digest(weights: Path) -> None:
    info = checkpoint.inspect(weights)
    assert (info.architecture, info.card) == ("tvsrn", CARD)
    assert info.config["depth"] == 2 and info.config["through_plane_window"] == [4, 8]
    assert info.sha256 == sha256_of(weights)
    assert info.parameters == sum(parameter.numel() for parameter in checkpoint.load(weights).parameters())


def test_loading_gives_card_hash_and_eval_mode(weights: Path) -> None:
    model = load_model(weights)
    assert model.card == CARD and model.sha256 == sha256_of(weights)
    assert not model.training


def test_saving_twice_gives_the_same_bytes(weights: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    checkpoint.save(checkpoint.load(weights), again, architecture="tvsrn", card=CARD)
    assert again.read_bytes() == weights.read_bytes()


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1, -4096])
def test_truncated(weights: Path, no_loading: None, kept: int) -> None:
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        checkpoint.load(weights)


def test_bytes_added(weights: Path, no_loading: None) -> None:
    weights.write_bytes(weights.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="added"):
        checkpoint.load(weights)


def test_one_flipped_bit(weights: Path, no_loading: None) -> None:
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(weights)


def test_a_file_that_lost_its_digest_is_refused_until_it_is_converted(weights: Path, tmp_path: Path) -> None:
    rewrite(weights, lambda meta: meta.pop("tensors_sha256"))
    with pytest.raises(CheckpointError, match=r"thinslice convert weights\.safetensors"):
        checkpoint.load(weights)
    made = convert(weights, tmp_path / "accepted.safetensors")
    assert made.card["accepted"]["source_sha256"] == sha256_of(weights) and made.tensors_sha256 is not None
    for name, tensor in checkpoint.load(tmp_path / "accepted.safetensors").state_dict().items():
        assert torch.equal(tensor, load_file(str(weights))[name])


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 64 + "\n", 5, []])
def test_a_digest_that_is_none_is_damage(weights: Path, digest: object) -> None:
    rewrite(weights, lambda meta: meta.update(tensors_sha256=digest))
    with pytest.raises(CheckpointError):
        checkpoint.load(weights)


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        ({"name": "mine\x1b[2J"}, "name holds characters that cannot be printed"),
        ({"name": "a" * 10_000}, "name is no text of 1 to"),
        ({"name": "mine\u202e"}, "name holds"),
        ({"name": 5}, "name is no text"),
        ({"version": "1\n2"}, "version holds"),
        ({"limits": "a\x07"}, r"card\.limits holds"),
        ({"limits": ["a" * 30_000]}, r"card\.limits is longer"),
        ({"scores": {"\x1b": 1}}, r"card\.scores has a key"),
        ({"scores": [[[[[[[[[[[[[1]]]]]]]]]]]]]}, "levels deep"),
        ({"scores": float("nan")}, "no finite number"),
        ({"scores": ["x" * 19_000] * 100}, "larger than 1 MiB"),
    ],
)
def test_cards_that_would_harm_a_terminal_are_refused(weights: Path, card: dict[str, Any], fault: str) -> None:
    rewrite(weights, lambda meta: meta.update(card=card))
    with pytest.raises(CheckpointError, match=fault):
        checkpoint.inspect(weights)
    with pytest.raises(ValueError, match=fault):
        checkpoint.save(catalog.build("thinnet"), weights, architecture="thinnet", card=card)


def test_texts_of_several_lines_are_kept(weights: Path) -> None:
    rewrite(weights, lambda meta: meta.update(card={"limits": "one\n\ttwo", "name": "größer 2"}))
    assert checkpoint.inspect(weights).card["limits"] == "one\n\ttwo"


def test_a_key_that_stands_twice(weights: Path, no_loading: None) -> None:
    header, tensors = header_of(weights)
    text = json.dumps(header).encode()
    for twice in (
        text[:-1] + b"," + json.dumps({"head.bias": header["head.bias"]}).encode()[1:],
        text.replace(b'{\\"architecture', b'{\\"card\\": {\\"name\\": \\"other\\"}, \\"architecture'),
    ):
        assert twice != text
        weights.write_bytes(len(twice).to_bytes(8, "little") + twice + tensors)
        with pytest.raises(CheckpointError):
            checkpoint.inspect(weights)


def test_a_header_that_is_mostly_padding(weights: Path, no_loading: None) -> None:
    header, tensors = header_of(weights)
    text = json.dumps(header).encode() + b" " * LARGEST_HEADER_BYTES
    weights.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    with pytest.raises(CheckpointError, match="its header would have"):
        checkpoint.inspect(weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.bool])
def test_weights_of_another_type(weights: Path, dtype: torch.dtype) -> None:
    tensors = load_file(str(weights))
    tensors["head.bias"] = tensors["head.bias"].to(dtype)
    resave(weights, tensors)
    with pytest.raises(CheckpointError, match=rf"head\.bias as {str(dtype).removeprefix('torch.')}"):
        checkpoint.load(weights)


@pytest.mark.parametrize("name", ["default", "fast", "best"])
def test_embedded_weights_are_those_of_the_release(name: str) -> None:
    path = catalog.weights_path(name)
    assert catalog.embedded_sha256(path) == sha256_of(path), "write SHA256SUMS again: sha256sum *.safetensors"
    assert checkpoint.inspect(path).tensors_sha256 is not None


def test_embedded_weights_that_were_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in catalog.WEIGHTS_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", tmp_path)
    load_model("fast")
    (tmp_path / "fast.safetensors").write_bytes((tmp_path / "default.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="install thinslice again"):
        load_model("fast")


def test_a_pickle_renamed(tmp_path: Path, no_loading: None) -> None:
    for number, content in enumerate((pickle.dumps({"net": 1}), b"PK\x03\x04" + bytes(100), b"")):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            checkpoint.load(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"[]",
        b"\xff\xfe",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": []}}',
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
    ],
)
def test_damaged_headers(tmp_path: Path, no_loading: None, header: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_a_header_length_beyond_the_file(tmp_path: Path, no_loading: None) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_another_architecture(weights: Path, no_loading: None) -> None:
    rewrite(weights, lambda meta: meta.update(architecture="thinnet"))
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.load(weights)
    rewrite(weights, lambda meta: meta.update(architecture="resnet"))
    with pytest.raises(CheckpointError, match="'resnet'"):
        checkpoint.load(weights)


def test_a_config_with_an_unknown_key(weights: Path, no_loading: None) -> None:
    rewrite(weights, lambda meta: meta["config"].update(colour="red"))
    with pytest.raises(CheckpointError, match="colour"):
        checkpoint.load(weights)


def test_an_absurd_config_takes_no_memory(weights: Path, no_loading: None) -> None:
    rewrite(weights, lambda meta: meta["config"].update(depth=64, factor=16, features=256))
    with PeakMemory() as memory, pytest.raises(CheckpointError, match="parameters, more than"):
        checkpoint.load(weights)
    assert memory.added_mib is None or memory.added_mib < 200  # the network would take TiB


def test_a_later_format(weights: Path, no_loading: None) -> None:
    rewrite(weights, lambda meta: meta.update(format=2))
    with pytest.raises(CheckpointError, match="update thinslice"):
        checkpoint.load(weights)


def test_plain_safetensors_without_a_card(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, str(path))
    with pytest.raises(CheckpointError, match="thinslice convert"):
        checkpoint.inspect(path)


def resave(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    header, _ = header_of(path)
    meta = json.loads(header["__metadata__"]["thinslice"])
    save_file(tensors, str(path))
    meta["tensors_sha256"] = hashlib.sha256(header_of(path)[1]).hexdigest()
    save_file(tensors, str(path), metadata={"thinslice": json.dumps(meta)})


def test_missing_unknown_and_misshapen_tensors_are_named(weights: Path) -> None:
    tensors = load_file(str(weights))
    tensors["surplus"] = tensors.pop("head.bias")
    tensors["head.weight"] = torch.zeros(2, 8)
    resave(weights, tensors)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(weights)
    for words in ("head.bias missing", "surplus unknown", "head.weight (2, 8) instead of (1, 8)"):
        assert words in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(weights: Path, value: float) -> None:
    tensors = load_file(str(weights))
    tensors["head.bias"][0] = value
    resave(weights, tensors)
    with pytest.raises(CheckpointError, match=r"NaN or infinity in head\.bias"):
        checkpoint.load(weights)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a model name"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="no weights in the package"):
        load_model("tvsrn")


def test_a_device_that_is_not_there(weights: Path) -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        checkpoint.load(weights, device="cuda:99")
