"""Reader of torch pickles that runs nothing in them.

Python's own unpickler imports the classes and calls the functions that a pickle names. This reader instead implements
only the instructions that `torch.save` writes, and never imports. The only calls that it evaluates are tensor and
parameter rebuilding, `OrderedDict` and `set`, each with plain data as the result. Every class becomes an inert
`Record`. Anything else is refused.

Source: the instructions as documented in Python's `pickletools`; the persistent ids and rebuild calls as written by
`torch.save` (zip format, torch 1.6 and later).
"""

from __future__ import annotations

import pickletools
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NoReturn

from thinslice.errors import CheckpointError

MAX_BYTES = 4 * 2**20
"""Largest pickle read, in bytes; that of a whole TVSRN has 90 kB, without its tensors."""

MAX_INSTRUCTIONS = 250_000
"""Most instructions executed, about a second; a whole TVSRN has 37 thousand."""

MAX_COPIED = 1_000_000
"""Most values copied by instructions that copy a container: a memo lets a short pickle copy a large one many times."""

MAX_AXES = 8
"""Most axes of a tensor."""


@dataclass(frozen=True)
class Name:
    """Name of a class or function in the pickle, "module attribute"; never imported."""

    name: str


@dataclass
class Record:
    """Plain data in place of an object.

    Attributes:
        kind: "module attribute" of its class, from the pickle.
        state: its attributes.
    """

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """A block of numbers outside the pickle.

    Attributes:
        kind: torch's name for the type, such as "FloatStorage".
        key: digits that name the record in the archive.
        count: stated number of values, not yet checked.
    """

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor as a view of a storage; nothing in it has been checked against the storage.

    Attributes:
        storage: block of its numbers.
        offset: index of its first number in the storage.
        size: extents.
        stride: step in the storage between neighbours along each axis.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_inert(data: bytes, *, source: str) -> Any:
    """The object a pickle describes, as dicts, lists, tuples, sets, scalars, `Record`s and `TensorView`s.

    Args:
        data: the pickle, protocol 2 to 5.
        source: name of the file, for messages.

    Raises:
        CheckpointError: when it needs anything beyond plain data, or is damaged. Do not open such a file with
            torch.load either.

    >>> import pickle
    >>> read_inert(pickle.dumps({"ratio": 5}, protocol=2), source="example")
    {'ratio': 5}
    >>> read_inert(pickle.dumps(print, protocol=2), source="example")
    Name(name='__builtin__ print')
    """
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{source} holds a pickle of {len(data)} bytes; at most {MAX_BYTES} are read.")
    machine = _Machine(source)
    end = 0
    try:
        for count, (instruction, argument, position) in enumerate(pickletools.genops(data)):
            if count >= MAX_INSTRUCTIONS:
                machine.refuse(f"has more than {MAX_INSTRUCTIONS} instructions")
            machine.position = end = position or 0
            machine.step(instruction.name, argument)
        if machine.marks or len(machine.stack) != 1:
            machine.refuse("ends with values left over")
        if end + 1 != len(data):
            machine.refuse("goes on after its end")
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error, MemoryError) as error:
        raise CheckpointError(
            f"The pickle in {source} is damaged near byte {end}; fetch the checkpoint again."
        ) from error
    return machine.stack[0]


_PUSH = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_MEMO_PUT = frozenset({"BINPUT", "LONG_BINPUT"})
_MEMO_GET = frozenset({"BINGET", "LONG_BINGET"})
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """Stack and memo of the pickle's instructions; every value on the stack is inert."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        # A dict, not an array: a memo number of 4 billion must not take memory.
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def refuse(self, why: str) -> NoReturn:
        raise CheckpointError(
            f"The pickle in {self.source} {why} (byte {self.position}); a checkpoint needs no such thing, so it is "
            "refused and nothing in it was run."
        )

    def step(self, instruction: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if instruction in _LITERALS:
            stack.append(argument)
        elif instruction in _PUSH:
            stack.append(_PUSH[instruction])
        elif instruction in _MEMO_PUT:
            self.memo[argument] = stack[-1]
        elif instruction in _MEMO_GET:
            stack.append(self.memo[argument])
        elif instruction in _SHORT_TUPLES:
            count = _SHORT_TUPLES[instruction]
            stack.append(tuple(self.pop_many(count)))
        else:
            self.step_rarer(instruction, argument)

    def step_rarer(self, instruction: str, argument: Any) -> None:
        stack = self.stack
        match instruction:
            case "PROTO":
                if self.position != 0 or not 2 <= argument <= 5:
                    self.refuse(f"has protocol {argument!r}")
            case "FRAME" | "STOP":
                pass
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(set())
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "TUPLE":
                values = self.pop_mark()
                self.stack.append(tuple(values))
            case "APPEND":
                value = stack.pop()
                self.target(list).append(value)
            case "APPENDS":
                values = self.pop_mark()
                self.target(list).extend(values)
            case "ADDITEMS":
                values = self.pop_mark()
                self.target(set).update(self.keys(values))
            case "SETITEM":
                key, value = self.pop_many(2)
                self.set_items([key, value])
            case "SETITEMS":
                self.set_items(self.pop_mark())
            case "GLOBAL":
                stack.append(Name(argument))
            case "STACK_GLOBAL":
                module, attribute = self.pop_many(2)
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    self.refuse("names a class by something that is not text")
                stack.append(Name(f"{module} {attribute}"))
            case "BINPERSID":
                stack.append(self.storage(stack.pop()))
            case "NEWOBJ":
                self.new_object()
            case "REDUCE":
                function, arguments = self.pop_many(2)
                stack.append(self.evaluate(function, arguments))
            case "BUILD":
                state = stack.pop()
                self.build(state)
            case _:
                self.refuse(f"uses the instruction {instruction}")

    def pop_many(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("stack underflow")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def target(self, kind: type) -> Any:
        """The container on top of the stack, to which an instruction adds."""
        if not isinstance(self.stack[-1], kind):
            self.refuse(f"adds to something that is not a {kind.__name__}")
        return self.stack[-1]

    def keys(self, values: list[Any]) -> list[Any]:
        if not all(value is None or isinstance(value, str | int | float) for value in values):
            self.refuse("has a key that is neither text nor a number")
        return values

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            self.refuse("has a key without a value")
        self.target(dict).update(zip(self.keys(values[::2]), values[1::2], strict=True))

    def new_object(self) -> None:
        kind, arguments = self.pop_many(2)
        if not isinstance(kind, Name):
            self.refuse("makes an object of something that is not a class")
        if arguments != ():
            self.refuse(f"passes arguments to {kind.name[:80]!r}")
        self.stack.append(Record(kind.name))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, OrderedDict):
            return  # A state dict's _metadata: versions of torch's own modules.
        if not isinstance(target, Record):
            self.refuse("sets the attributes of something that is not an object")
        self.count_copies(len(state) if isinstance(state, dict) else 0)
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            self.refuse(f"sets the attributes of {target.kind[:80]!r} in an unusual way")
        target.state.update(state)

    def count_copies(self, count: int) -> None:
        self.copied += count
        if self.copied > MAX_COPIED:
            self.refuse(f"copies more than {MAX_COPIED} values")

    def storage(self, identity: Any) -> Storage:
        match identity:
            case ("storage", Name(name), str(key), str(), int(count)) if (
                name.startswith("torch ") and key.isascii() and key.isdigit() and len(key) <= 9 and count >= 0
            ):
                return Storage(name.removeprefix("torch "), key, count)
        self.refuse("refers to something outside that is not a tensor's storage")

    def evaluate(self, function: Any, arguments: Any) -> Any:
        """The result of one of the few permitted calls; nothing is called."""
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            self.refuse("calls something that is not a function")
        match function.name, arguments:
            case "collections OrderedDict", ():
                return OrderedDict()
            case (("__builtin__ set" | "builtins set"), (list(values),)):
                self.count_copies(len(values))
                return set(self.keys(values))
            case "torch._utils _rebuild_tensor_v2", (Storage() as storage, int(offset), tuple(size), tuple(stride), *_):
                if len(size) > MAX_AXES or len(stride) != len(size):
                    self.refuse("describes a tensor with more axes than strides, or too many")
                if not all(type(number) is int and 0 <= number < 2**62 for number in (offset, *size, *stride)):
                    self.refuse("describes a tensor whose extents are no whole numbers from 0 on")
                return TensorView(storage, offset, size, stride)
            case "torch._utils _rebuild_parameter", (TensorView() as tensor, *_):
                return tensor
        self.refuse(f"calls {function.name[:80]!r}")
