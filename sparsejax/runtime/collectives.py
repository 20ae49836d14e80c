"""What the devices exchange in a compiled program, read from its optimised HLO."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")

# Bits of an element; other types (tokens, opaque ones) hold nothing that is sent.
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16} | {
    f"{letter}{bits}": bits
    for letter, widths in {"s": (8, 16, 32, 64), "u": (8, 16, 32, 64), "f": (16, 32, 64)}.items()
    for bits in widths
}
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*)")
_OPCODE = re.compile(r" ([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|called_computations|branch_computations"
    r"|true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)"
)
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_AXIS = re.compile(r"'([\w.\-]+)'(?:=(\d+)|:\(\d+\)(\d+))?")


@dataclass(frozen=True)
class Collective:
    """One exchange of arrays among the devices."""

    kind: str  # of KINDS
    bytes: int  # of the whole arrays, before a reduce-scatter or after an all-gather
    devices: int | None  # that exchange with each other; None: all
    always: bool  # on each step; else in a branch or a further loop, or once for several steps

    def sent(self, devices: int) -> float:
        """The bytes that each device must send at the least, whatever the algorithm.

        `Patarasuk and Yuan 2009 <https://doi.org/10.1016/j.jpdc.2008.09.002>`_, section 3: an
        all-reduce is no less than a reduce-scatter and an all-gather of (n - 1) / n of the arrays.

        Args:
          devices: all of them.
        """
        if self.kind == "collective-permute":
            return self.bytes
        n = self.devices or devices
        return (2 if self.kind == "all-reduce" else 1) * self.bytes * (n - 1) / n


def parse(hlo: str) -> list[Collective]:
    """The collectives of a step; an asynchronous one is its start, and its end is not counted.

    Where there is a loop in the entry computation, that is the one over the steps: what is in its
    body is on each of them, and what is beside it on none.

    Args:
      hlo: the text of an optimised module, of one program for all devices.
    """
    computations, entry = _computations(hlo)
    found: list[Collective] = []
    # Each computation once; where it is called both always and sometimes, always.
    waiting, seen = [(True, entry, False)], set()
    loops = any(" while(" in line for line in computations.get(entry, ()))
    channels = set()
    while waiting:
        waiting.sort()
        always, name, fused = waiting.pop()
        if name in seen or name not in computations:
            continue
        seen.add(name)
        for line in computations[name]:
            opcode = _OPCODE.search(line)
            if opcode is None:
                continue
            shape, what, rest = line[: opcode.start()], opcode[1], line[opcode.end() :]
            kind = what.removesuffix("-start")
            if fused and (channel := _CHANNEL.search(rest)):
                # The TPU's compiler lets other work run within a collective: it puts the same one
                # into several fusions, each of which does a part of it.
                if channel[1] in channels:
                    continue
                channels.add(channel[1])
            each = always and not (loops and name == entry)
            if kind in KINDS:
                found.append(_collective(kind, what != kind, shape, rest, name, each))
            one_step = what == "while" and name == entry
            inside = one_step or (each and what not in ("conditional", "while"))
            waiting += [(inside, called, what == "fusion") for called in _called(rest)]
    return found


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The instructions of each computation without their names, and where the program begins."""
    computations: dict[str, list[str]] = {}
    current, entry = "", ""
    for line in hlo.splitlines():
        if found := _INSTRUCTION.match(line):
            computations.setdefault(current, []).append(found[1])
        elif found := _COMPUTATION.match(line):
            current = found[2]
            entry = current if found[1] else entry
    return computations, entry


def _called(rest: str) -> Iterator[str]:
    for names in _CALLED.findall(rest):
        yield from (name.strip(" %") for name in names.strip("{}").split(","))


def _collective(
    kind: str, starts: bool, shape: str, rest: str, computation: str, always: bool
) -> Collective:
    sizes = [_bytes(*array) for array in _ARRAY.findall(shape)]
    if starts and kind != "all-reduce":
        # (what is taken, what is given), then the compiler's own scalars.
        arrays = [s for s, (name, dims) in zip(sizes, _ARRAY.findall(shape), strict=True)
                  if dims or name not in ("u32", "s32")]  # fmt: skip
        sizes = arrays[len(arrays) // 2 :]
    devices = None if kind == "collective-permute" else _group(rest)
    size = sum(sizes)
    if kind == "reduce-scatter":
        size *= devices or 1
    # The TPU's compiler writes a reduce-scatter as a fusion of an all-reduce and a slice.
    if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    return Collective(kind, size, devices, always)


def _bytes(kind: str, dims: str) -> int:
    count = math.prod(int(size) for size in dims.split(",") if size)
    return -(-count * _BITS.get(kind, 0) // 8)


def _group(rest: str) -> int | None:
    """How many devices there are in a group, in any of the three ways of writing groups."""
    _, found, groups = rest.partition("replica_groups=")
    if not found:
        return None
    if listed := re.match(r"\{\{([\d,]*)\}", groups):
        return listed[1].count(",") + 1
    if iota := re.match(r"\[\d+,(\d+)\]<=", groups):
        return int(iota[1])
    if mesh := re.match(r"mesh\[([^\]]*)\][^{]*\{([^}]*)\}", groups):
        sizes = {name: int(size) for name, size, _ in _AXIS.findall(mesh[1]) if size}
        used = [int(part) if part else sizes[name] for name, _, part in _AXIS.findall(mesh[2])]
        return math.prod(used)
    return None
