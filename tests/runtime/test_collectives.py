"""Collectives are read from the text of a program: here of short ones, whose bytes are known."""

from __future__ import annotations

import textwrap

import pytest

from sparsejax.runtime.collectives import Collective, parse


def program(body: str, before: str = "") -> str:
    head = "HloModule jit_step, is_scheduled=true, num_partitions=8"
    return "\n\n".join(
        (head, textwrap.dedent(before), f"ENTRY %main.1 (p: f32[8]) -> f32[8] {{\n{body}\n}}")
    )


def one(line: str) -> Collective:
    (found,) = parse(program(f"  %x.1 = {line}"))
    return found


LISTED = "replica_groups={{0,1,2,3},{4,5,6,7}}"


@pytest.mark.parametrize(
    ("line", "kind", "size", "devices"),
    [
        (f"f32[3,5]{{1,0}} all-reduce(%p), channel_id=1, {LISTED}", "all-reduce", 60, 4),
        (f"f32[] all-reduce(%p), {LISTED}", "all-reduce", 4, 4),
        # The layout of a TPU, and a comment among the members of a tuple.
        (
            "(bf16[3072,768]{1,0:T(8,128)(2,1)S(1)}, /*index=5*/s32[]{:T(128)}, pred[7]{0}) "
            f"all-reduce(%a, %b, %c), {LISTED}, to_apply=%add",
            "all-reduce",
            2 * 3072 * 768 + 4 + 7,
            4,
        ),
        (f"bf16[4,6]{{1,0}} all-gather(%p), {LISTED}, dimensions={{0}}", "all-gather", 48, 4),
        # What it gives is a quarter of what it takes.
        (f"f32[2,3]{{1,0}} reduce-scatter(%p), {LISTED}", "reduce-scatter", 96, 4),
        (f"s8[16]{{0}} all-to-all(%p), {LISTED}", "all-to-all", 16, 4),
        (
            "u4[9]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            5,
            None,
        ),
        # Asynchronous: what is taken, what is given, and what the compiler adds.
        (f"f32[10]{{0}} all-reduce-start(%p), {LISTED}", "all-reduce", 40, 4),
        (f"(f32[2]{{0}}, f32[8]{{0}}) all-gather-start(%p), {LISTED}", "all-gather", 32, 4),
        (
            "((f32[2]{0}, s8[3]{0}), (f32[8]{0}, s8[12]{0})) all-gather-start(%p, %q), " + LISTED,
            "all-gather",
            44,
            4,
        ),
        (
            "(f32[6]{0}, f32[6]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p), "
            "source_target_pairs={{0,1}}",
            "collective-permute",
            24,
            None,
        ),
        # The other ways of writing groups.
        ("f32[1]{0} all-reduce(%p), replica_groups=[2,4]<=[8]", "all-reduce", 4, 4),
        ("f32[1]{0} all-reduce(%p), replica_groups=[4,2]<=[2,4]T(1,0)", "all-reduce", 4, 2),
        (
            "f32[1]{0} all-reduce(%p), replica_groups=mesh['a'=4,'b'=2] {'a','b'}",
            "all-reduce",
            4,
            8,
        ),
        (
            "f32[1]{0} all-reduce(%p), replica_groups=mesh['axis_0'=4,'axis_1'=2], "
            "device_ids=([4,2]T(1,0)) {'axis_1'}, dimensions={0}",
            "all-reduce",
            4,
            2,
        ),
        ("f32[1]{0} all-reduce(%p), replica_groups={}", "all-reduce", 4, None),
    ],
)
def test_one_line(line: str, kind: str, size: int, devices: int | None) -> None:
    assert one(line) == Collective(kind, size, devices, always=True)


def test_an_asynchronous_one_is_counted_once() -> None:
    body = f"""\
  %start = (f32[2]{{0}}, f32[8]{{0}}) all-gather-start(%p), {LISTED}
  %other = f32[8]{{0}} add(%a, %b), metadata={{op_name="all-reduce(x)"}}
  ROOT %done = f32[8]{{0}} all-gather-done(%start)"""
    assert parse(program(body)) == [Collective("all-gather", 32, 4, True)]


def test_one_within_a_generic_asynchronous_instruction() -> None:
    before = f"""\
    %async_computation (p.1: f32[8]) -> f32[2] {{
      ROOT %inside = f32[2]{{0}} reduce-scatter(%p.1), {LISTED}
    }}"""
    body = """\
  %start = ((f32[8]{0}), f32[2]{0}, u32[]) async-start(%p), calls=%async_computation
  ROOT %done = f32[2]{0} async-done(%start), calls=%async_computation"""
    assert parse(program(body, before)) == [Collective("reduce-scatter", 32, 4, True)]


def test_branches_and_loops_are_on_some_steps() -> None:
    before = f"""\
    %update (p.1: f32[8]) -> f32[8] {{
      %loop = (s32[], f32[8]{{0}}) while(%t), condition=%more, body=%count, metadata={{op_name="a"}}
    }}

    %count (p.2: f32[8]) -> f32[8] {{
      ROOT %total = s32[3]{{0}} all-reduce(%p.2), {LISTED}, to_apply=%add
    }}

    %more (p.3: f32[8]) -> pred[] {{
      ROOT %less = pred[] compare(%a, %b), direction=LT
    }}

    %nothing (p.4: f32[8]) -> f32[8] {{
      ROOT %p.4 = f32[8]{{0}} parameter(0)
    }}

    %never (p.5: f32[8]) -> f32[8] {{
      ROOT %dead = f32[999]{{0}} all-reduce(%p.5), {LISTED}
    }}"""
    body = f"""\
  %grads = f32[5]{{0}} all-reduce(%p), {LISTED}
  ROOT %c = f32[8]{{0}} conditional(%i, %p, %p), branch_computations={{%nothing, %update}}"""
    assert set(parse(program(body, before))) == {
        Collective("all-reduce", 20, 4, always=True),
        Collective("all-reduce", 12, 4, always=False),
    }


def test_a_loop_that_the_program_begins_with_is_over_its_steps() -> None:
    before = f"""\
    %step (p.1: f32[8]) -> f32[8] {{
      %grads = f32[5]{{0}} all-reduce(%p.1), {LISTED}
      ROOT %loop = (s32[], f32[8]{{0}}) while(%t), condition=%more, body=%count
    }}

    %count (p.2: f32[8]) -> f32[8] {{
      ROOT %total = s32[3]{{0}} all-reduce(%p.2), {LISTED}
    }}

    %more (p.3: f32[8]) -> pred[] {{
      ROOT %less = pred[] compare(%a, %b), direction=LT
    }}"""
    body = f"""\
  %once = f32[7]{{0}} all-reduce(%p), {LISTED}
  ROOT %steps = (s32[], f32[8]{{0}}) while(%p), condition=%more, body=%step"""
    assert set(parse(program(body, before))) == {
        Collective("all-reduce", 28, 4, always=False),
        Collective("all-reduce", 20, 4, always=True),
        Collective("all-reduce", 12, 4, always=False),
    }


def test_what_a_branch_shares_with_every_step_is_on_every_step() -> None:
    before = f"""\
    %shared (p.1: f32[8]) -> f32[8] {{
      ROOT %r = f32[8]{{0}} all-reduce(%p.1), {LISTED}
    }}"""
    for body in (
        """\
  %a = f32[8]{0} conditional(%i, %p), true_computation=%shared, false_computation=%shared
  ROOT %b = f32[8]{0} call(%p), to_apply=%shared""",
        """\
  %b = f32[8]{0} call(%p), to_apply=%shared
  ROOT %a = f32[8]{0} conditional(%i, %p), true_computation=%shared, false_computation=%shared""",
    ):
        assert parse(program(body, before)) == [Collective("all-reduce", 32, 4, True)]


def test_fusions_of_a_tpu() -> None:
    # A reduce-scatter is an all-reduce of which a slice is taken; a collective that runs beside
    # other work is in several fusions, and its channel says that it is the same.
    before = f"""\
    %all-reduce-scatter.3 (input: bf16[8]) -> bf16[2] {{
      %r = bf16[8]{{0:T(8,128)(2,1)}} all-reduce(%input), channel_id=4, {LISTED}
      ROOT %s = bf16[2]{{0}} dynamic-slice(%r, %i), dynamic_slice_sizes={{2}}
    }}

    %fused_computation.1 (q.1: bf16[2]) -> bf16[8] {{
      ROOT %g.1 = bf16[8]{{0}} all-gather(%q.1), channel_id=7, {LISTED}
    }}

    %async_collective_fusion.2 (q.2: bf16[2]) -> bf16[8] {{
      ROOT %g.2 = bf16[8]{{0}} all-gather(%q.2), channel_id=7, {LISTED}
    }}"""
    body = """\
  %a = bf16[2]{0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.3
  %b = (bf16[2]{0}, u32[]{:S(2)}) fusion(%p), kind=kCustom, calls=%fused_computation.1
  ROOT %c = (bf16[8]{0}, u32[]{:S(2)}) fusion(%b), kind=kOutput, calls=%async_collective_fusion.2"""
    assert set(parse(program(body, before))) == {
        Collective("reduce-scatter", 16, 4, True),
        Collective("all-gather", 16, 4, True),
    }
    assert len(parse(program(body, before))) == 2


@pytest.mark.parametrize(
    ("kind", "devices", "sent"),
    [
        ("all-reduce", 4, 1200),
        ("all-gather", 4, 600),
        ("reduce-scatter", None, 700),  # among all 8
        ("all-to-all", 8, 700),
        ("collective-permute", None, 800),
        ("all-reduce", 1, 0),
    ],
)
def test_what_is_sent(kind: str, devices: int | None, sent: float) -> None:
    assert Collective(kind, 800, devices, True).sent(8) == sent
