"""Numbers as machine words, for compiled loops: what numba has no functions for, as LLVM instructions.

numba knows no bf16, and no fp16 on a CPU: arrays of such numbers come as integers of their bits, unsigned for bf16 and
signed for fp16.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_u, _i = np.uint32, np.int32

_HALF, _FLOAT = ir.HalfType(), ir.FloatType()


def _instruction(name: str, argument: Any, result: Any, build: Any) -> Any:
    """A function of one number for compiled code.

    Args:
        argument, result: numba's types.
        build: (LLVM builder, LLVM value) → LLVM value.
    """

    def typed(typingctx, x):
        return result(argument), lambda context, builder, signature, args: build(builder, args[0])

    typed.__name__ = typed.__qualname__ = name
    return intrinsic(typed)


#: an fp32 number as the integer of its bits, and back
as_int = _instruction("as_int", types.float32, types.int32, lambda b, x: b.bitcast(x, ir.IntType(32)))
as_float = _instruction("as_float", types.int32, types.float32, lambda b, x: b.bitcast(x, _FLOAT))
#: fp16, as the integer of its bits, to fp32 and back, rounded to nearest
from_half = _instruction("from_half", types.int16, types.float32, lambda b, x: b.fpext(b.bitcast(x, _HALF), _FLOAT))
to_half = _instruction(
    "to_half", types.float32, types.int16, lambda b, x: b.bitcast(b.fptrunc(x, _HALF), ir.IntType(16))
)


def _fma(typingctx, a, b, c):
    return c(c, c, c), lambda context, builder, signature, args: builder.fma(*args)


#: ``a·b + c`` of three numbers of one type, rounded once
fma: Any = intrinsic(_fma)


def get(array: Any, i: int) -> Any:
    """An array's element as a number, in compiled code: fp32, or fp64 for fp64 numbers."""
    raise NotImplementedError


def put(array: Any, i: int, value: Any) -> None:
    """Set an array's element, in compiled code: rounded to nearest, ties to even."""
    raise NotImplementedError


@overload(get)
def _get_of(array, i):
    if array.dtype == types.uint16:
        return lambda array, i: as_float(_i(_u(array[i]) << _u(16)))
    if array.dtype == types.int16:
        return lambda array, i: from_half(array[i])
    return lambda array, i: array[i]


@overload(put)
def _put_of(array, i, value):
    if array.dtype == types.uint16:

        def rounded(array, i, value):
            w = _u(as_int(value))
            nearest = (w + _u(0x7FFF) + ((w >> _u(16)) & _u(1))) >> _u(16)
            array[i] = _u(0x7FC0) if (w & _u(0x7FFFFFFF)) > _u(0x7F800000) else nearest

        return rounded
    if array.dtype == types.int16:

        def halved(array, i, value):
            array[i] = to_half(value)

        return halved

    def plain(array, i, value):
        array[i] = value

    return plain
