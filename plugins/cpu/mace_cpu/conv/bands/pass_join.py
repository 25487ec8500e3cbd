"""Steps that read a convolution's result in windows are joined with it, where that result is large.

It then never goes to memory: `codegen.bands` computes a few rows of it at a time and uses them at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint, minimum
from mace_cpu.conv.bands.arguments import MOST_WORDS, WINDOW_INPUT, Arg
from mace_cpu.conv.direct.arguments import Arg as Conv
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import At, Buf, Place
from mace_cpu.shared.parts.forms import ConvolutionForm, WindowForm
from mace_cpu.shared.parts.steps import CHUNKS_PER_THREAD, Step
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import after_lowering

SMALLEST_RESULT_BYTES = 1 << 20
"""A smaller result stays in the second level cache anyway."""

MOST_PRODUCTS = 160
"""A convolution of more products per element of its result is busy with these, and its weights would be read anew for
each band."""

BAND_BYTES = 96 << 10
"""How much of the result is computed before it is used."""

HELD_BANDS = 4
"""There is room for so many bands, so that rows which two bands need are seldom moved."""

MOST_GROUP_BYTES = 640 << 10
"""The room for all channels that are computed together."""

LEAST_CHUNKS_PER_THREAD = 2

ROWS_PER_SHARED_ROW = 16
"""Chunks that meet within an image both compute the rows that windows share: one in so many, or there is but one chunk
for an image where that gives all threads the same."""


@after_lowering
def join_bands(program: Program) -> None:
    """Replace convolutions and the step that reads their result by steps that do both."""
    touching: dict[Buf, list[int]] = {}
    for index, step in enumerate(program.steps.emitted):
        for buf in {at.buf for _, at in step.addresses}:
            touching.setdefault(buf, []).append(index)
    joined: list[Step] = []
    for index, step in enumerate(program.steps.emitted):
        found = _producers(program, step, index, touching)
        if found:
            del joined[len(joined) - len(found) :]
            joined.extend(_join(program, producer, step) for producer in found)
        else:
            joined.append(step)
    program.steps.emitted[:] = joined


def _producers(program: Program, step: Step, index: int, touching: dict[Buf, list[int]]) -> Sequence[Step]:
    """The convolutions right before ``step`` that compute what it alone reads, if they are worth joining."""
    form = step.form
    if not isinstance(form, WindowForm) or len(step.words) > MOST_WORDS:
        return ()
    middle = _address(step, WINDOW_INPUT)
    if middle.buf.place is not Place.ARENA or middle.offset:
        return ()
    if sum(at.buf is middle.buf for _, at in step.addresses) > 1:  # added to the result, too: needed as a whole
        return ()
    if hint(4 * form.planes * form.rows * form.width * program.settings.block) < SMALLEST_RESULT_BYTES:
        return ()
    users = touching[middle.buf]
    if users != list(range(users[0], index + 1)):
        return ()
    producers = program.steps.emitted[users[0] : index]
    return producers if producers and all(_fits(producer, middle, form) for producer in producers) else ()


def _fits(step: Step, middle: At, form: WindowForm) -> bool:
    conv = step.form
    return (
        isinstance(conv, ConvolutionForm)
        and conv.whole
        and _address(step, Conv.OUTPUT) == middle
        and sum(at.buf is middle.buf for _, at in step.addresses) == 1
        and (conv.rows, conv.width) == (form.rows, form.width)
        and (not conv.flat or conv.width >= conv.pixels)
        and len(step.words) <= MOST_WORDS
        and math.prod(step.words[w] for w in (Conv.IN_BLOCKS, Conv.KERNEL_ROWS, Conv.TAPS, Conv.RUN)) <= MOST_PRODUCTS
    )


def _address(step: Step, word: int) -> At:
    return next(at for index, at in step.addresses if index == word)


def _join(program: Program, first: Step, second: Step) -> Step:
    """The step that does both: the convolution ``first``, and ``second``, which reads its result in windows."""
    conv, form = first.form, second.form
    assert isinstance(conv, ConvolutionForm) and isinstance(form, WindowForm)
    split = _split(program, first, conv, form)
    images = form.planes // first.words[Conv.OUT_BLOCKS] * split.groups
    chunks = 1
    if hint(first.chunks) > 1 or hint(second.chunks) > 1:
        chunks = _chunks(program.settings.threads, images, split.bands, form)
    kernel = band_kernel(program.settings.block, conv.flat)
    assert kernel.words is not None
    words: dict[Arg | str, int | list[int]] = {
        Arg.SCRATCH: 0,  # this and the next two are addresses, which are not known yet
        Arg.FIRST: 0,
        Arg.SECOND: 0,
        "convolution": first.words,
        "reader": second.words,
        Arg.SCRATCH_BYTES: split.scratch_bytes,
        Arg.FIRST_WORDS: len(first.words),
        Arg.SECOND_WORDS: len(second.words),
        Arg.BANDS: split.bands,
        Arg.BAND_ROWS: split.band_rows,
        Arg.GROUPS: split.groups,
        Arg.GROUP_TILES: split.group_tiles,
        Arg.TILES: first.words[Conv.OC_TILES],
        Arg.TILE_BLOCKS: conv.blocks,
        Arg.TILE_PIXELS: conv.pixels,
        Arg.FIRST_BLOCK: first.words[Conv.FIRST_OUT_BLOCK],
        Arg.ALL_BLOCKS: first.words[Conv.OUT_BLOCKS],
        Arg.HELD_ROWS: split.held_rows,
        Arg.ROWS: form.rows,
        Arg.WIDTH: form.width,
        Arg.OUT_ROWS: form.out_rows,
        Arg.STRIDE: form.stride,
        Arg.PAD: form.pad,
        Arg.SPAN: form.span,
    }
    return Step(
        kernel,
        kernel.words.arrange(words, kernel.symbol),
        [(int(Arg.SCRATCH), At(Buf.scratch(split.scratch_bytes * chunks))), *_addresses(first, second, chunks)],
        images * split.bands,
        chunks,
        f"{first.name}+{second.name}",
        (*first.source, *second.source),
        work=first.work + second.work,
        calls=[(int(Arg.FIRST), first.kernel), (int(Arg.SECOND), second.kernel)],
    )


@dataclass(frozen=True, slots=True)
class Split:
    """What is computed together.

    Attributes:
        group_tiles, groups: tiles of channels per group, and how many groups.
        band_rows, bands: rows of the reader's result per band, and how many bands.
        held_rows: rows of the convolution's result that there is room for.
        scratch_bytes: that room.
    """

    group_tiles: int
    groups: int
    band_rows: int
    bands: int
    held_rows: int
    scratch_bytes: int


def _split(program: Program, first: Step, conv: ConvolutionForm, form: WindowForm) -> Split:
    tiles = first.words[Conv.OC_TILES]
    row_bytes = 4 * conv.width * program.settings.block
    tile_bytes = conv.blocks * hint(row_bytes)
    group_tiles = max(min(MOST_GROUP_BYTES // (HELD_BANDS * (form.stride + form.span) * tile_bytes), tiles), 1)
    if tiles >= program.settings.threads:
        group_tiles = min(group_tiles, tiles // program.settings.threads)
    band_rows = min(max(BAND_BYTES // (group_tiles * tile_bytes * form.stride), 1), hint(form.out_rows))
    held_rows = HELD_BANDS * band_rows * form.stride + form.span
    groups, bands = -(-tiles // group_tiles), -(-form.out_rows // band_rows)
    return Split(group_tiles, groups, band_rows, bands, held_rows, group_tiles * conv.blocks * row_bytes * held_rows)


def _addresses(first: Step, second: Step, chunks: int) -> Iterator[tuple[int, At]]:
    """The addresses among the words of both, by where these lie among the words of the step that does both."""
    between = _address(second, WINDOW_INPUT)
    own_scratch = 4 * first.words[Conv.SCRATCH_FLOATS] * chunks
    for at, step in ((len(Arg), first), (len(Arg) + len(first.words), second)):
        for word, address in step.addresses:
            if step is first and word == Conv.SCRATCH and own_scratch:
                yield at + word, At(Buf.scratch(own_scratch))
            elif address != between:  # it is told where each band lies
                yield at + word, address


def _chunks(threads: int, images: int, bands: int, form: WindowForm) -> int:
    """Into how many chunks a step over ``images`` (batch, groups of channels) of ``bands`` bands each is split."""
    shared = max(form.span - form.stride, 0)
    now = hint(images)  # any number of chunks is right
    cheap = hint(form.rows) // (ROWS_PER_SHARED_ROW * shared) if shared else hint(bands)
    least = 1 if now % threads == 0 else -(-threads * LEAST_CHUNKS_PER_THREAD // now)
    return images * minimum(max(min(-(-threads * CHUNKS_PER_THREAD // now), cheap), least), bands)


def band_kernel(block: int, flat: bool) -> KernelSource:
    """The kernel that calls both."""
    symbol = f"bands_b{block}" + ("_flat" if flat else "")
    words = functools.partial(WordLayout.of, Arg, convolution="first_words", reader="second_words")
    return generated("mace_cpu.conv.bands.generate", symbol, block, flat, words=words)
