"""Bytes that one launch of a kernel moves between a GPU and its memory: what it reads of its operands, and
what it writes.

Walks a fused computation from its results to its parameters, with how many elements are wanted of each
instruction. Exact but for these: what several users read of an array adds up until it is whole, though they
might read the same part; a select reads both sides; a custom call that is none of XLA's own reads and writes
its arrays whole, once; a sort reads and writes once; caches keep nothing.
"""
from collections import Counter

from jaxrl_moe.planning.hlo import result_shape
from jaxrl_moe.planning.instructions import Computation, Instruction, Module, arrays, parts

_PICKS = ("slice", "dynamic-slice", "gather")  # read of their first operand what they give
_SPREADS = ("broadcast", "pad")  # at most their operand, however large they are
_UPDATES = ("dynamic-update-slice", "scatter")
_RENAMES = ("bitcast", "get-tuple-element")
# the last result of these libraries' calls is their scratch memory
_SCRATCH = ("__cublas$", "__cudnn$", "__cub$")


def kernel_bytes(module: Module, body: Computation, kernel: Instruction) -> int:
    """Of one launch of an instruction of `body`."""
    fused = _computation(module, body, kernel)
    wanted = _wanted(module, fused)
    read = sum(
        _bytes(given.shape, wanted[given.name]) for given in fused.values() if given.opcode == "parameter")
    return read + sum(_written(module, fused, result) for result in _results(fused))


def result_shapes(module: Module, body: Computation, kernel: Instruction) -> list[str]:
    """The types of what an instruction of `body` gives, without memory that only it uses."""
    fused = _computation(module, body, kernel)
    return [shape for result in _results(fused) for shape in _kept(fused, result)]


def elements(shape: str) -> int:
    """Of all arrays of a type."""
    return sum(array.elements for array in arrays(shape))


def _computation(module: Module, body: Computation, kernel: Instruction) -> Computation:
    return _fused(module, kernel) if kernel.kind == "fusion" else _alone(body, kernel)


def _fused(module: Module, fusion: Instruction) -> Computation:
    return module.computations[next(name for role, name in fusion.called if role == "calls")]


def _alone(body: Computation, kernel: Instruction) -> Computation:
    """An instruction that stands for itself, as if it were fused with nothing."""
    names = [name for name in kernel.operands if name in body]
    given = {name: body[name]._replace(opcode="parameter", inside="", root=False) for name in names}
    return given | {kernel.name: kernel._replace(root=True)}


def _wanted(module: Module, fused: Computation) -> Counter:
    """{instruction: elements of it that the results need}."""
    updates = {_renamed(fused, result).name for result in _results(fused) if _in_place(fused, result)}
    wanted = Counter()
    for user in reversed(fused.values()):
        whole = elements(user.shape)
        share = whole if user.root else min(wanted[user.name], whole)
        wanted[user.name] = share
        for index, name in enumerate(user.operands):
            if share and name in fused:
                size = elements(fused[name].shape)
                wanted[name] += min(size, _read(module, fused, user, index, share, user.name in updates))
    return wanted


def _read(module: Module, fused: Computation, user: Instruction, index: int, share: int,
          in_place: bool) -> int:
    """Elements that an instruction reads of an operand, when `share` elements of its own are wanted."""
    size = elements(fused[user.operands[index]].shape)
    whole = elements(user.shape)
    if in_place:
        return 0 if index < _buffers(user) else size
    if user.opcode == "fusion":
        inner = _fused(module, user)
        given = (name for name, instruction in inner.items()
                 if instruction.opcode == "parameter" and instruction.inside == str(index))
        return _wanted(module, inner)[next(given)]
    if user.opcode == "dynamic-update-slice" and index == 0:
        return max(0, share - _updated(fused, user))
    if index == 0 and user.opcode in _PICKS or user.opcode in _SPREADS:
        return share
    return size if user.shape.startswith("(") else -(-size * share // max(whole, 1))


def _written(module: Module, fused: Computation, result: Instruction) -> int:
    """Bytes that a result of a fused computation writes; where an update in place adds, it reads them
    before."""
    if _in_place(fused, result):
        update = _renamed(fused, result)
        return _bytes(parts(update.shape)[0], _updated(fused,
                                                       update)) * (2 if _combines(module, update) else 1)
    return sum(array.bytes() for shape in _kept(fused, result) for array in arrays(shape))


def _kept(fused: Computation, result: Instruction) -> list[str]:
    """The types of a result of a fused computation, without a library's scratch memory."""
    if result.opcode == "get-tuple-element":
        call = fused[result.operands[0]]
        index = result.numbers("index")[0]
        return _kept(fused, call)[index:index + 1]
    several = list(parts(result_shape(result)))
    if len(several) < 2 or not result.target.startswith(_SCRATCH):
        return several
    last, = arrays(several[-1])
    return several[:-1] if last.dtype in ("s8", "u8") and len(last.sizes) == 1 else several


def _results(fused: Computation) -> list[Instruction]:
    root = next(instruction for instruction in fused.values() if instruction.root)
    return [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]


def _in_place(fused: Computation, result: Instruction) -> bool:
    """Whether a result is an argument of which only a part changes; where it is needed afterwards, XLA copies
    it before."""
    update = _renamed(fused, result)
    return update.opcode in _UPDATES and _renamed(fused, fused[update.operands[0]]).opcode == "parameter"


def _renamed(fused: Computation, instruction: Instruction) -> Instruction:
    """What an instruction only gives another type to."""
    while instruction.opcode in _RENAMES and instruction.operands[0] in fused:
        instruction = fused[instruction.operands[0]]
    return instruction


def _buffers(update: Instruction) -> int:
    """How many of its first operands an update changes."""
    return 1 if update.opcode == "dynamic-update-slice" else (len(update.operands) - 1) // 2


def _updated(fused: Computation, update: Instruction) -> int:
    """Elements that an update writes."""
    count = _buffers(update)
    names = update.operands[1:2] if update.opcode == "dynamic-update-slice" else update.operands[count + 1:]
    return sum(elements(fused[name].shape) for name in names)


def _combines(module: Module, update: Instruction) -> bool:
    """Whether what was there matters to what an update writes."""
    combiner = next((module.computations.get(name) for role, name in update.called if role == "to_apply"),
                    None)
    if combiner is None:
        return False
    return next(instruction for instruction in combiner.values() if instruction.root).opcode != "parameter"


def _bytes(shape: str, count: int) -> int:
    """Bytes of some elements of a type; of a tuple of several, as many of each as it has if all are asked
    for."""
    members = arrays(shape)
    if count >= elements(shape):
        return sum(array.bytes() for array in members)
    return sum(array.bytes() for array in members) * count // max(elements(shape), 1)
