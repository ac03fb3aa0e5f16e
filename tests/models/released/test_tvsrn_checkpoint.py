"""The authors' checkpoints: converted faithfully, and hostile ones refused without a trace."""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from thinslice.errors import CheckpointError, OutputExistsError, UsageError
from thinslice.models import catalog, checkpoint
from thinslice.models.load import load_model
from thinslice.models.released import inert_pickle, tvsrn_checkpoint
from thinslice.models.released.convert import convert
from thinslice.system.files import sha256_of

STAGES = {"encoder": "Encoder", "through_plane": "Decoder_T1", "in_plane": "Decoder_I1"}
PARTS = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.projection": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
    "norm_in": "patch_embed.norm",
    "norm_out": "norm",
    "embedding.linear": "LP",
    "head.hidden": "conv_before_upsample.0",
    "head.output": "conv_last",
}


def released_state(depth: int = 4, factor: int = 5) -> dict[str, torch.Tensor]:
    """Random weights under the released names; this mapping is written apart from the one under test."""
    torch.manual_seed(0)
    model = catalog.build("tvsrn-released", depth=depth, factor=factor)
    state = {}
    for ours, tensor in model.state_dict().items():
        stem, _, leaf = ours.rpartition(".")
        stage, _, rest = stem.partition(".")
        if stem in PARTS:
            axes = 2 if stem == "embedding.linear" else 3
            shaped = tensor.reshape(*tensor.shape, *[1] * axes) if leaf == "weight" else tensor
            state[f"{PARTS[stem]}.{leaf}"] = shaped
        elif rest in PARTS:
            state[f"{STAGES[stage]}.{PARTS[rest]}.{leaf}"] = tensor
        else:
            _, group, _, block, part = rest.split(".", 4)
            place = f"{STAGES[stage]}.layers.{group}.residual_group.blocks.{block}"
            name = "attn.relative_position_bias_table" if leaf == "position_bias" else f"{PARTS[part]}.{leaf}"
            state[f"{place}.{name}"] = tensor
    return state


def write_archive(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, **zip_options: Any) -> Path:
    """An archive laid out as torch.save does it."""
    with zipfile.ZipFile(path, "w", **zip_options) as archive:
        archive.writestr("weights/data.pkl", pickled)
        archive.writestr("weights/byteorder", "little")
        for key, content in (storages or {}).items():
            archive.writestr(f"weights/data/{key}", content)
    return path


# --- conversion -----------------------------------------------------------------------------------------------------


def test_the_golden_checkpoint_becomes_one_file_that_gives_the_golden_output(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden"
    path = tmp_path / "tvsrn.safetensors"
    modules_before = set(sys.modules)
    info = convert(golden / "released_checkpoint_64.pkl", path)
    assert not {name for name in sys.modules.keys() - modules_before if name.split(".")[0] in ("net", "timm")}
    assert info == checkpoint.inspect(path)
    assert info.architecture == "tvsrn-released" and info.parameters == 2_387_489
    assert info.card["origin"] == "converted from a released checkpoint"
    assert info.card["source_sha256"] == sha256_of(golden / "released_checkpoint_64.pkl")
    assert info.card["source_config"] == {"net_idx": "TVSRN", "c_z": 4, "ratio": 5}
    assert "unknown" in info.card["licences"] and "data" not in str(info.card["source_config"])

    model = load_model(path)
    vectors = np.load(golden / "tvsrn_released_io_64.npz")
    with torch.inference_mode():
        thin = model(torch.from_numpy(vectors["input"]))
    assert float((thin[:, :, 3:13] - torch.from_numpy(vectors["output"])).abs().max()) <= 2e-4


def test_the_golden_pickle_holds_the_golden_tensors(shared: Path) -> None:
    read = tvsrn_checkpoint.read_released(shared / "golden" / "released_checkpoint_64.pkl")
    expected = load_file(str(shared / "golden" / "tvsrn_released_weights.safetensors"))
    assert read.state.keys() == expected.keys()
    assert all(torch.equal(read.state[name], expected[name]) for name in expected)


def test_released_names_cover_our_parameters_one_to_one(shared: Path) -> None:
    state = load_file(str(shared / "golden" / "tvsrn_released_weights.safetensors"))
    assert state.keys() == released_state().keys()
    renamed = tvsrn_checkpoint.from_released_names(state)
    assert len(renamed) == len(state)
    assert renamed.keys() == catalog.build("tvsrn-released").state_dict().keys()


@pytest.mark.parametrize(("depth", "factor"), [(2, 2), (3, 4)])
@pytest.mark.parametrize("form", ["safetensors", "state dict", "data parallel", "half"])
def test_depth_and_factor_follow_from_the_weights(tmp_path: Path, depth: int, factor: int, form: str) -> None:
    state = released_state(depth, factor)
    source, path = tmp_path / "source", tmp_path / "ours.safetensors"
    if form == "safetensors":
        save_file(state, str(source))
    elif form == "data parallel":
        torch.save({"net": OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())}, source)
    elif form == "half":
        torch.save({name: tensor.half() for name, tensor in state.items()}, source)
    else:
        torch.save(state, source)
    convert(source, path)
    model = load_model(path)
    assert model.window.depth == depth and model.factors == (factor,)
    ours = model.state_dict()["in_plane.groups.1.blocks.2.attention.qkv.weight"]
    theirs = state["Decoder_I1.layers.1.residual_group.blocks.2.attn.qkv.weight"]
    assert torch.equal(ours, theirs.half().float() if form == "half" else theirs)


@pytest.mark.parametrize("keys", [("state_dict",), ("model", "params"), ("generator",)])
def test_weights_under_any_key_are_found(keys: tuple[str, ...], tmp_path: Path) -> None:
    state = released_state(2, 2)
    content: object = {f"model.net.{name}": tensor for name, tensor in state.items()}
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    weights = torch.nn.Linear(2, 2)
    content["optimizer"] = torch.optim.Adam(weights.parameters()).state_dict()  # type: ignore[index]
    torch.save(content, tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "ours.safetensors")
    theirs = state["Decoder_I1.layers.1.residual_group.blocks.2.attn.qkv.weight"]
    ours = load_model(tmp_path / "ours.safetensors").state_dict()["in_plane.groups.1.blocks.2.attention.qkv.weight"]
    assert torch.equal(ours, theirs)


def test_of_two_networks_in_one_file_none_is_guessed(tmp_path: Path) -> None:
    state = released_state(2, 2)
    torch.save({"student": state, "teacher": state}, tmp_path / "source")
    with pytest.raises(CheckpointError, match=r"several networks \(student, teacher\)"):
        convert(tmp_path / "source", tmp_path / "ours.safetensors")


def test_a_safetensors_file_whose_first_byte_is_that_of_a_pickle(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    # The length of the header, which the file begins with, in steps of 8.
    for spare in range(0, 2048, 8):
        save_file(released_state(2, 2), str(source), metadata={"note": "x" * spare})
        if source.read_bytes()[:1] == b"\x80":
            break
    assert source.read_bytes()[:1] == b"\x80"
    convert(source, tmp_path / "ours.safetensors")
    (tmp_path / "bare").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CheckpointError, match="bare pickle"):
        convert(tmp_path / "bare", tmp_path / "other.safetensors")


def test_views_of_storages_are_read_with_their_strides(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    torch.save({"a": base.T[1:3], "b": base[1].clone()}, tmp_path / "views")
    read = tvsrn_checkpoint.read_released(tmp_path / "views")
    assert torch.equal(read.state["a"], base.T[1:3]) and torch.equal(read.state["b"], base[1])


def test_derived_buffers_are_left_out(tmp_path: Path) -> None:
    state = released_state(2, 2)
    state["Encoder.layers.0.residual_group.blocks.1.attn_mask"] = torch.full((4, 64, 64), -100.0)
    state["Encoder.layers.0.residual_group.blocks.1.attn.relative_position_index"] = torch.zeros(64, 64).long()
    torch.save(state, tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "ours.safetensors")


# --- refused: does not fit -----------------------------------------------------------------------------------------


def refused(state: dict[str, torch.Tensor], tmp_path: Path, match: str, **config: object) -> None:
    torch.save({"net": state, "config_dict": config}, tmp_path / "source")
    with pytest.raises(CheckpointError, match=match):
        convert(tmp_path / "source", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_missing_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    state = released_state(2, 2)
    refused({name: state[name] for name in state if name != "conv_last.bias"}, tmp_path, r"head\.output\.bias missing")
    refused({**state, "surplus.weight": torch.zeros(1)}, tmp_path, r"surplus\.weight")
    refused({**state, "Decoder_I2.norm.weight": torch.zeros(1)}, tmp_path, "Decoder_I2")
    refused({"weight": torch.zeros(3)}, tmp_path, "another network")
    refused({**state, "conv_last.weight": torch.zeros(1, 16, 3, 3, 3)}, tmp_path, "of another shape")


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    state = released_state(2, 2)
    refused({**state, "conv_last.bias": torch.tensor([float("nan")])}, tmp_path, r"NaN or infinity in conv_last\.bias")
    refused({**state, "conv_last.bias": torch.tensor([1])}, tmp_path, "floats were expected")


def test_a_config_that_contradicts_the_weights(tmp_path: Path) -> None:
    refused(released_state(2, 2), tmp_path, "ratio is '5' in its config", c_z=2, ratio=5)
    refused(released_state(2, 2), tmp_path, "net_idx", net_idx="ResVox")


def test_extents_that_give_no_depth_or_factor(tmp_path: Path) -> None:
    state = released_state(2, 2)
    refused({**state, "LP.weight": torch.zeros(8, 100, 1, 1)}, tmp_path, "fit no depth and factor")
    refused({**state, "conv_before_upsample.0.weight": torch.zeros(16, 0)}, tmp_path, "empty tensor")
    # Small tensors that claim an enormous network: refused by their shapes, before it takes memory.
    refused({**state, "Decoder_I1.patch_embed.norm.weight": torch.zeros(8 * 17)}, tmp_path, "of another shape")


def test_converting_never_harms_what_exists(tmp_path: Path) -> None:
    source, path = tmp_path / "source.safetensors", tmp_path / "ours.safetensors"
    save_file(released_state(2, 2), str(source))
    before = source.read_bytes()
    with pytest.raises(UsageError, match="source itself"):
        convert(source, source, overwrite=True)
    with pytest.raises(UsageError, match="must end in"):
        convert(source, tmp_path / "ours.pkl")
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        convert(source, path)
    assert path.read_bytes() == b"mine" and source.read_bytes() == before
    convert(source, path, overwrite=True)
    with pytest.raises(UsageError, match="nothing to convert"):
        convert(path, tmp_path / "twice.safetensors")
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")) == [
        "ours.safetensors",
        "source.safetensors",
    ]


# --- refused: hostile ---------------------------------------------------------------------------------------------


class Call:
    """An object whose pickle is a call, as an attacker writes it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def running_attacks(trace: Path) -> dict[str, bytes]:
    """Pickles that create `trace` when Python's own unpickler opens them."""
    import os

    touch = f"touch {trace}"
    code = f"open({str(trace)!r}, 'w').close()"
    inner = pickle.dumps(Call(os.system, touch), protocol=2)

    # A frozenset of a map: both run their arguments while they are being made.
    consumed_map = (
        name("builtins", "frozenset")
        + name("builtins", "map")
        + name("os", "system")
        + b"]("
        + text(touch)
        + b"e\x86\x81"
    )

    def dumped(value: object, protocol: int = 2) -> bytes:
        return pickle.dumps(value, protocol=protocol)

    return {
        "os.system": dumped(Call(os.system, touch)),
        "os.system, protocol 4": dumped(Call(os.system, touch), 4),
        "os.system, protocol 0": dumped(Call(os.system, touch), 0),
        "eval": dumped(Call(eval, code)),
        "exec inside a config": dumped({"net": {}, "config_dict": {"ratio": Call(exec, code)}}),
        "exec as a key": dumped({"net": {}, "config_dict": {Call(exec, code): 1}}),
        "open": dumped(Call(open, str(trace), "w")),
        "a call of what a call returned": b"\x80\x02"
        + name("builtins", "getattr")
        + name("posixpath", "os")
        + text("system")
        + b"\x86R"
        + text(touch)
        + b"\x85R.",
        "nested pickle": dumped(Call(pickle.loads, inner), 4),
        "objects made with arguments": b"\x80\x02" + consumed_map + b"\x85\x81.",
        "objects made with named arguments": b"\x80\x04" + consumed_map + b"\x85}\x92.",
        "INST": b"(" + text(touch) + b"ios\nsystem\n.",
        "OBJ": b"(" + name("io", "FileIO") + text(str(trace)) + text("w") + b"o.",
        "EXT1": b"\x80\x02\x82\xf0" + text(touch) + b"\x85R.",
        "__setstate__ of functools.partial": b"\x80\x02"
        + name("functools", "partial")
        + name("os", "system")
        + b"\x85\x81("
        + name("os", "system")
        + text(touch)
        + b"\x85}Ntb)R.",
        "through the memo": b"\x80\x02}"
        + text("a")
        + name("os", "system")
        + b"q\x05s"
        + text("b")
        + b"h\x05"
        + text(touch)
        + b"\x85Rs.",
        "a rebuild hook": b"\x80\x02"
        + name("collections", "OrderedDict")
        + b")R"
        + text("x")
        + name("torch._tensor", "_rebuild_from_type_v2")
        + b"("
        + name("os", "system")
        + name("builtins", "str")
        + text(touch)
        + b"\x85}tRs.",
    }


@pytest.fixture
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "system", 0xF0)
    yield
    copyreg.remove_extension("os", "system", 0xF0)


ATTACKS = list(running_attacks(Path("trace")))


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_leave_no_trace(tmp_path: Path, attack: str, extension: None) -> None:
    trace = tmp_path / "trace"
    pickled = running_attacks(trace)[attack]
    for path in (
        write_archive(tmp_path / "zipped.pkl", pickled),
        write_archive(
            tmp_path / "in_net.pkl", b"\x80\x02}" + text("net") + pickled.removeprefix(b"\x80\x02")[:-1] + b"s."
        ),
    ):
        with pytest.raises(CheckpointError):
            convert(path, tmp_path / "ours.safetensors")
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickled)
    with pytest.raises(CheckpointError):
        convert(bare, tmp_path / "ours.safetensors")
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")) == [
        "bare.pkl",
        "in_net.pkl",
        "zipped.pkl",
    ]


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_are_real(tmp_path: Path, attack: str, extension: None) -> None:
    """Python's own unpickler falls for each of them, so that the test above means something."""
    trace = tmp_path / "trace"
    # Some stumble after they have struck.
    with contextlib.suppress(Exception):
        pickle.loads(running_attacks(trace)[attack])  # noqa: S301 - our own harmless payload
    assert trace.exists()


def storage(key: bytes = text("0"), kind: str = "FloatStorage", count: bytes = b"K\x04") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + key + text("cpu") + count + b"tQ"


def tensor(held: bytes, offset: bytes = b"K\x00", size: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85") -> bytes:
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return rebuild + b"(" + held + offset + size + stride + b"\x89" + name("collections", "OrderedDict") + b")RtR"


def state_dict(value: bytes) -> bytes:
    return b"\x80\x02}" + text("a") + value + b"s."


def minus(number: int) -> bytes:
    return b"J" + struct.pack("<i", -number)


def module(children: bytes) -> bytes:
    """A record whose `_modules` is the value that `children` pushes."""
    return name("torch.nn", "Module") + b")\x81}" + text("_modules") + children + b"sb"


def doubling(depth: int) -> bytes:
    """Modules that hold the next one twice: few bytes, 2^depth paths."""
    pickled = module(b"}") + b"q\x00"
    for level in range(depth):
        children = b"}(" + text("a") + pickled + text("b") + b"h" + bytes([level]) + b"u"
        pickled = module(children) + b"q" + bytes([level + 1])
    return pickled


HOSTILE = {
    "a path as storage key": state_dict(tensor(storage(text("../../../etc/passwd")))),
    "an absolute path as storage key": state_dict(tensor(storage(text("/dev/zero")))),
    "a storage of another record": state_dict(tensor(storage(text("1")))),
    "a storage that states more": state_dict(tensor(storage(count=b"K\x05"))),
    "a storage that states less": state_dict(tensor(storage(count=b"K\x03"))),
    "a storage that states a negative count": state_dict(tensor(storage(count=minus(4)))),
    "a storage of another type": state_dict(tensor(storage(kind="DoubleStorage"))),
    "a storage of an unknown type": state_dict(tensor(storage(kind="EvilStorage"))),
    "a persistent id of source code": b"\x80\x02("
    + text("module")
    + name("net", "TVSRN")
    + text("a.py")
    + text("x")
    + b"tQ.",
    "a persistent id that is text": b"\x80\x02" + text("storage") + b"Q.",
    "a persistent id of protocol 0": b"Pstorage\n.",
    "an offset past the end": state_dict(tensor(storage(), offset=b"K\x01")),
    "a negative offset": state_dict(tensor(storage(), offset=minus(1))),
    "a stride past the end": state_dict(tensor(storage(), stride=b"K\x02\x85")),
    "a negative stride": state_dict(tensor(storage(), offset=b"K\x03", stride=minus(1) + b"\x85")),
    "a negative size": state_dict(tensor(storage(), size=minus(4) + b"\x85")),
    "a size without strides": state_dict(tensor(storage(), stride=b")")),
    "an expanded tensor of 2^60 numbers": state_dict(
        tensor(storage(), size=(b"\x8a\x04" + struct.pack("<I", 2**30)) * 2 + b"\x86", stride=b"K\x00K\x00\x86")
    ),
    "extents that are not numbers": state_dict(tensor(storage(), size=text("4") + b"\x85")),
    "a parameter that is no tensor": state_dict(name("torch._utils", "_rebuild_parameter") + text("x") + b"\x85R"),
    "a tensor without a storage": state_dict(tensor(text("0"))),
    "OrderedDict of something": state_dict(name("collections", "OrderedDict") + b"]\x85R"),
    "a set of tuples": state_dict(name("builtins", "set") + b"](K\x01K\x01\x86e\x85R"),
    "a tuple as key": b"\x80\x02})" + tensor(storage()) + b"s.",
    "attributes of a class": b"\x80\x02" + name("builtins", "dict") + b"}" + text("x") + b"K\x01sb.",
    "attributes in slots": b"\x80\x02" + name("a", "B") + b")\x81N}\x86b.",
    "items of an object": b"\x80\x02" + name("a", "B") + b")\x81" + text("x") + b"K\x01s.",
    "appending to a dict": b"\x80\x02}K\x01a.",
    "a module inside itself": b"\x80\x02"
    + name("torch.nn", "Module")
    + b")\x81q\x00}"
    + text("_modules")
    + b"}"
    + text("a")
    + b"h\x00ssb.",
    "modules that hold the next one twice": b"\x80\x02" + doubling(30) + b".",
    "parameters that are no dict": b"\x80\x02" + name("a", "B") + b")\x81}" + text("_parameters") + b"]K\x01asb.",
    "a module that is a number": b"\x80\x02" + module(b"}" + text("a") + b"K\x01s") + b".",
    "a memo number of 4 billion": b"\x80\x02}r\xff\xff\xff\xff.",
    "a memo number that was never set": b"\x80\x02h\x05.",
    "text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "bytes": b"\x80\x04C\x04abcd.",
    "a whole number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "an out-of-band buffer": b"\x80\x05\x97.",
    "popping an empty stack": b"\x80\x020.",
    "building on an empty stack": b"\x80\x02}b.",
    "items without a mark": b"\x80\x02}u.",
    "an unknown instruction": b"\x80\x02\xff.",
    "protocol 9": b"\x80\x09}.",
    "a second pickle after the first": b"\x80\x02}.\x80\x02}.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "values left over": b"\x80\x02}}.",
    "a mark left over": b"\x80\x02(}.",
    "a key without a value": b"\x80\x02}(K\x01u.",
    "tuples nested a hundred thousand deep": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "only a class": b"\x80\x02" + name("os", "system") + b".",
    "a class among the tensors": state_dict(name("os", "system")),
}


@pytest.mark.parametrize("attack", list(HOSTILE))
def test_hostile_pickles_are_refused(tmp_path: Path, attack: str) -> None:
    path = write_archive(tmp_path / "hostile.pkl", HOSTILE[attack], {"0": bytes(16)})
    with pytest.raises(CheckpointError, match=r"hostile\.pkl"):
        tvsrn_checkpoint.read_released(path)


def test_the_frame_of_the_hostile_pickles_is_sound(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype="<f4")
    path = write_archive(tmp_path / "fine.pkl", state_dict(tensor(storage())), {"0": numbers.tobytes()})
    assert tvsrn_checkpoint.read_released(path).state["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
    children = (
        b"}"
        + text("child")
        + name("net", "X")
        + b")\x81}"
        + text("_parameters")
        + b"}"
        + text("a")
        + tensor(storage())
        + b"sbs"
    )
    pickled = b"\x80\x02" + module(children.replace(b"sbs", b"ssbs")) + b"."
    path = write_archive(tmp_path / "fine.pkl", pickled, {"0": numbers.tobytes()})
    assert tvsrn_checkpoint.read_released(path).state["child.a"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_instructions_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_pickle, "MAX_INSTRUCTIONS", 100)
    with pytest.raises(CheckpointError, match="more than 100 instructions"):
        tvsrn_checkpoint.read_released(write_archive(tmp_path / "long.pkl", b"\x80\x02](" + b"}" * 200 + b"e."))


def test_compressed_archives_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    path = write_archive(
        tmp_path / "bomb.pkl", b"\x80\x02}.", {"0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(CheckpointError, match="compressed"):
        tvsrn_checkpoint.read_released(path)


def test_records_that_overlap_or_repeat_are_refused(tmp_path: Path) -> None:
    pickled = state_dict(tensor(storage()))
    plain = write_archive(tmp_path / "plain.pkl", pickled, {"0": bytes(16)}).read_bytes()
    # The size of data.pkl in the directory is a gigabyte.
    size = struct.pack("<II", len(pickled), len(pickled))
    path = tmp_path / "states-too-much.pkl"
    path.write_bytes(plain.replace(size, struct.pack("<II", 2**30, 2**30)))
    with pytest.raises(CheckpointError, match="more bytes than the file has"):
        tvsrn_checkpoint.read_released(path)
    with pytest.warns(UserWarning, match="Duplicate"):
        path = write_archive(tmp_path / "twice.pkl", pickled, {"../data.pkl": pickled, "0": bytes(16)})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("weights/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="two of one name"):
        tvsrn_checkpoint.read_released(path)


def test_many_tensors_of_one_storage_do_not_multiply(tmp_path: Path) -> None:
    large = 4 * 10_000
    one = tensor(storage(count=b"M" + struct.pack("<H", 10_000)), size=b"M\x10\x27\x85")
    pickled = b"\x80\x02}(" + b"".join(text(f"t{number}") + one for number in range(200)) + b"u."
    with pytest.raises(CheckpointError, match="same numbers"):
        tvsrn_checkpoint.read_released(write_archive(tmp_path / "many.pkl", pickled, {"0": bytes(large)}))


def test_damaged_archives(tmp_path: Path) -> None:
    whole = write_archive(
        tmp_path / "whole.pkl", state_dict(tensor(storage())), {"0": b"abcdefghijklmnop"}
    ).read_bytes()
    path = tmp_path / "damaged.pkl"
    for damaged in (whole[:-30], whole[:60], whole.replace(b"abcdefgh", b"abcdefgX"), b"PK\x03\x04", b"", bytes(1000)):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged\.pkl"):
            tvsrn_checkpoint.read_released(path)


@pytest.mark.parametrize("part", ["pickle", "archive"])
def test_any_damage_is_our_error_or_harmless(tmp_path: Path, part: str) -> None:
    """A hundred and fifty random changes; none may end in anything but a checkpoint or a CheckpointError."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    torch.save({"net": {"a": torch.arange(6.0).reshape(2, 3)}, "config_dict": {"ratio": 5}}, buffer)
    whole = buffer.getvalue()
    with zipfile.ZipFile(buffer) as archive:
        pickled = archive.read(next(record for record in archive.namelist() if record.endswith("data.pkl")))
    path, outcomes = tmp_path / "changed.pkl", set()
    for _ in range(150):
        changed = bytearray(pickled if part == "pickle" else whole)
        for at in random.integers(0, len(changed), 2):
            changed[at] = random.integers(0, 256)
        if part == "pickle":
            write_archive(path, bytes(changed), {"0": np.arange(6, dtype="<f4").tobytes()})
        else:
            path.write_bytes(changed)
        try:
            tvsrn_checkpoint.read_released(path)
            outcomes.add("read")
        except CheckpointError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_archives_that_are_not_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"no data\.pkl"):
        tvsrn_checkpoint.read_released(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        tvsrn_checkpoint.read_released(tmp_path / "absent.pkl")
    legacy = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, legacy, _use_new_zipfile_serialization=False)
    path.write_bytes(legacy.getvalue())
    with pytest.raises(CheckpointError, match="bare pickle"):
        tvsrn_checkpoint.read_released(path)


def test_mask_tokens_other_than_zero_are_not_dropped_in_silence(tmp_path: Path) -> None:
    def pickled() -> bytes:
        held = b"}" + text("_parameters") + b"}" + text("a") + tensor(storage()) + b"s"
        mask = text("x_patch_mask") + tensor(storage(text("1")))
        return b"\x80\x02" + name("net.model_TransSR", "TVSRN") + b")\x81" + held + b"s" + mask + b"sb."

    zeros, ones = bytes(16), np.ones(4, dtype="<f4").tobytes()
    tvsrn_checkpoint.read_released(write_archive(tmp_path / "m.pkl", pickled(), {"0": ones, "1": zeros}))
    with pytest.raises(CheckpointError, match="mask tokens"):
        tvsrn_checkpoint.read_released(write_archive(tmp_path / "m.pkl", pickled(), {"0": ones, "1": ones}))
