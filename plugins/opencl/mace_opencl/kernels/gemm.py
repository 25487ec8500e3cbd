"""Tiled matrix products: two tiles in local memory, a block of results in each work-item's registers.

``out[b, m, n] = epilogue(sum over k of A[b, m, k] * B[b, k, n])``; where B comes from is a parameter, so that a
convolution is a product with the matrix of its patches, which is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mace_opencl.program import UNROLL, Kernel, make_kernel

TILE_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns of the result that a work-group computes, and the block that one of its work-items does."""

    rows: int
    columns: int
    item_rows: int
    item_columns: int

    @property
    def local(self) -> tuple[int, int, int]:
        return (self.columns // self.item_columns, self.rows // self.item_rows, 1)

    def groups(self, rows: int, columns: int, batch: int) -> tuple[int, int, int]:
        return (-(-columns // self.columns), -(-rows // self.rows), batch)


_TILES = (Tile(64, 64, 4, 4), Tile(32, 64, 2, 4), Tile(32, 32, 2, 2), Tile(16, 32, 1, 2), Tile(16, 16, 1, 1))


def choose_tile(rows: int, columns: int, batch: int, compute_units: int) -> Tile:
    """The largest tile that still gives every compute unit two groups and is not mostly empty."""
    for tile in _TILES[:-1]:
        across, down, deep = tile.groups(rows, columns, batch)
        used = rows * columns / (across * tile.columns * down * tile.rows)
        if across * down * deep >= 2 * compute_units and used > 0.6:
            return tile
    return min(_TILES[2:], key=lambda t: _waste(t, rows, columns))


def _waste(tile: Tile, rows: int, columns: int) -> tuple[int, int]:
    across, down, _ = tile.groups(rows, columns, 1)
    return (across * tile.columns * down * tile.rows, -tile.rows * tile.columns)


@dataclass(frozen=True, slots=True)
class Operand:
    """Where an operand's elements come from.

    Attributes:
        parameters: what the expressions refer to, besides ``row``/``k`` or ``k``/``column`` and ``batch``.
        setup: statements before the loop over tiles.
        prepare: statements per element loaded, over ``k`` and ``row`` or ``column``.
        value: the element; only evaluated inside the matrix.
        k_is_inner: whether neighbors along k lie next to each other in memory (which decides who loads what).
    """

    parameters: tuple[tuple[str, str], ...]
    setup: str
    prepare: str
    value: str
    k_is_inner: bool


def strided_operand(name: str, minor: str, *, k_is_inner: bool, batches: int) -> Operand:
    """A dense matrix in memory with any strides; ``minor`` is ``row`` or ``column``.

    Its scalar arguments: stride along the minor index, along k, then along each of ``batches`` batch axes.
    """
    scalars = [("int", f"{name}_minor"), ("int", f"{name}_k")]
    scalars += [("long", f"{name}_batch{axis}") for axis in range(batches)]
    steps = " + ".join(f"batch{axis} * {name}_batch{axis}" for axis in range(batches)) or "0"
    return Operand(
        (("float*", name), *scalars),
        f"  {name} += {steps};\n",
        "",
        f"{name}[{minor} * {name}_minor + k * {name}_k]",
        k_is_inner,
    )


def gemm_kernel(
    hint: str,
    tile: Tile,
    a: Operand,
    b: Operand,
    batch_axes: int,
    epilogue_parameters: Sequence[tuple[str, str]],
    epilogue: str,
    result: str,
    result_type: str,
    *,
    e_batch: str = "batch",
    e_row: str = "row",
) -> Kernel:
    """The kernel.

    Its parameters: those of ``a``, of ``b``, of the epilogue, the result, then ints ``rows``, ``columns``, ``depth``,
    the sizes of the batch axes, and ``batch_stride`` and ``row_stride`` of the result.  The epilogue sees ``acc`` and
    the coordinates ``e_batch``, ``e_row`` (as given here) and ``column``, and gives ``result``.
    """
    parameters = [*a.parameters, *b.parameters, *epilogue_parameters, (f"{result_type}*=", "y")]
    parameters += [("int", "rows"), ("int", "columns"), ("int", "depth")]
    parameters += [("int", f"batch_size{axis}") for axis in range(batch_axes)]
    parameters += [("long", "batch_stride"), ("int", "row_stride")]
    wide, high, _ = tile.local
    body = f"""
  __local float a_tile[{TILE_DEPTH}][{tile.rows + 1}];
  __local float b_tile[{TILE_DEPTH}][{tile.columns + 1}];
  int lx = get_local_id(0), ly = get_local_id(1);
  int me = ly * {wide} + lx;
  int first_row = get_group_id(1) * {tile.rows}, first_column = get_group_id(0) * {tile.columns};
  int batch = get_group_id(2);
{_batch(batch_axes)}{a.setup}{b.setup}  float sums[{tile.item_rows}][{tile.item_columns}];
  for (int i = 0; i < {tile.item_rows}; ++i)
    for (int j = 0; j < {tile.item_columns}; ++j) sums[i][j] = 0.0f;
  for (int k0 = 0; k0 < depth; k0 += {TILE_DEPTH}) {{
{_load("a", "row", tile.rows, wide * high, a)}{_load("b", "column", tile.columns, wide * high, b)}\
    barrier(CLK_LOCAL_MEM_FENCE);
{UNROLL}    for (int kk = 0; kk < {TILE_DEPTH}; ++kk) {{
      float left[{tile.item_rows}], right[{tile.item_columns}];
      for (int i = 0; i < {tile.item_rows}; ++i) left[i] = a_tile[kk][ly + i * {high}];
      for (int j = 0; j < {tile.item_columns}; ++j) right[j] = b_tile[kk][lx + j * {wide}];
      for (int i = 0; i < {tile.item_rows}; ++i)
        for (int j = 0; j < {tile.item_columns}; ++j) sums[i][j] += left[i] * right[j];
    }}
    barrier(CLK_LOCAL_MEM_FENCE);
  }}
  for (int i = 0; i < {tile.item_rows}; ++i) {{
    int row = first_row + ly + i * {high};
    for (int j = 0; j < {tile.item_columns}; ++j) {{
      int column = first_column + lx + j * {wide};
      if (row < rows && column < columns) {{
        int e_batch = {e_batch}, e_row = {e_row};
        float acc = sums[i][j];
{epilogue}        y[batch * batch_stride + (long)row * row_stride + column] = {result};
      }}
    }}
  }}
"""
    return make_kernel(hint, parameters, body, tile.local)


def _batch(axes: int) -> str:
    if axes <= 1:
        return "  int batch0 = batch;\n" if axes else ""
    lines = ["  int rest_batch = batch;\n"]
    for axis in range(axes - 1, 0, -1):
        lines.append(f"  int batch{axis} = rest_batch % batch_size{axis}; rest_batch /= batch_size{axis};\n")
    return "".join(lines) + "  int batch0 = rest_batch;\n"


def _load(name: str, minor: str, extent: int, items: int, operand: Operand) -> str:
    """All work-items fill a tile, neighbors taking neighboring addresses."""
    total = extent * TILE_DEPTH
    if operand.k_is_inner:
        where = f"int kk = e % {TILE_DEPTH}, mm = e / {TILE_DEPTH};"
    else:
        where = f"int kk = e / {extent}, mm = e % {extent};"
    limit = "rows" if minor == "row" else "columns"
    return f"""\
    for (int e = me; e < {total}; e += {items}) {{
      {where}
      int k = k0 + kk, {minor} = first_{minor} + mm;
      float loaded = 0.0f;
      if (k < depth && {minor} < {limit}) {{
{operand.prepare}        loaded = {operand.value};
      }}
      {name}_tile[kk][mm] = loaded;
    }}
"""
