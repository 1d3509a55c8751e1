"""Sees every operation of a network while it runs, however it is written, and carries differences through it.

A `TorchFunctionMode` is told of modules, functions, methods and operators alike, so foreign code needs no change and no
hooks. Operations that are linear in the picture are left to autograd; the others have rules (`lift_rules`,
`lift_compositions`), or the mean gradient of that operation alone by quadrature.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from spacex.attribution import lift_compositions as made_of
from spacex.attribution import lift_linear as linear
from spacex.attribution import lift_rules as rules
from spacex.attribution.lift_slopes import CLOSED, SMOOTH

_LINEAR = """
    add sub rsub subtract neg negative positive cat concat concatenate stack hstack vstack dstack mean sum nansum
    permute transpose swapaxes swapdims movedim moveaxis t adjoint reshape view view_as reshape_as flatten unflatten
    ravel unbind chunk split split_with_sizes tensor_split select slice narrow index_select gather take_along_dim index
    contiguous expand expand_as broadcast_to repeat repeat_interleave tile squeeze unsqueeze to float half double
    bfloat16 type type_as clone alias detach dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout
    feature_alpha_dropout avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    interpolate upsample upsample_nearest upsample_bilinear upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
    pad constant_pad_nd reflection_pad2d replication_pad2d unfold fold im2col col2im pixel_shuffle pixel_unshuffle
    channel_shuffle masked_fill where tril triu roll flip fliplr flipud rot90 cumsum diff diagonal diag_embed trace
    real imag view_as_real view_as_complex conj resolve_conj fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2
    fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift copy fill zero set
    masked_scatter scatter scatter_add index_add index_copy index_fill index_put embedding
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor
    requires_grad_ register_hook size dim numel stride sym_size is_floating_point is_complex is_contiguous data_ptr
    storage_offset item tolist cpu cuda eq ne lt le gt ge isnan isinf isfinite logical_and logical_or logical_not
    logical_xor argmax argmin argsort any all equal allclose one_hot bincount _assert_tensor_metadata"""
LINEAR = frozenset(_LINEAR.split())
"""Linear in eval mode, or without a difference to carry."""

_POLYNOMIAL = """
    einsum mv dot inner outer ger baddbmm addmm addmv addbmm addcmul linear conv1d conv3d convolution
    conv_transpose1d conv_transpose2d conv_transpose3d bilinear tensordot kron lerp"""
_POOLS = [f"{start}max_pool{n}d{end}" for n in (1, 2, 3) for start in ("", "_") for end in ("", "_with_indices")]

RULES: dict[str, Callable[..., Any]] = {
    **{name: partial(rules.elementwise, name) for name in {*CLOSED, *SMOOTH}},
    **{name: rules.product for name in ("mul", "multiply", "__mul__", "__rmul__")},
    **{name: rules.matrix_product for name in ("matmul", "mm", "bmm", "__matmul__")},
    "conv2d": linear.convolution, "batch_norm": linear.batch_norm,
    "__rmatmul__": lambda run, func, a, b: rules.matrix_product(run, torch.matmul, b, a),
    **{name: rules.polynomial for name in _POLYNOMIAL.split()},
    **{name: made_of.divide for name in ("div", "divide", "true_divide", "__truediv__", "__div__")},
    **{name: made_of.divide_by for name in ("__rtruediv__", "__rdiv__")},
    "maximum": rules.maximum, "fmax": rules.maximum, "minimum": made_of.minimum, "fmin": made_of.minimum,
    "max": made_of.max_or_maximum, "min": made_of.min_or_minimum, "amax": made_of.amax, "amin": made_of.amin,
    **{name: made_of.max_pool for name in _POOLS},
    **{f"adaptive_max_pool{n}d": made_of.adaptive_max_pool for n in (1, 2, 3)},
    "norm": made_of.norm, **{name: rules.vector_norm for name in ("linalg_norm", "linalg_vector_norm")},
    "softmax": rules.softmax, "log_softmax": made_of.log_softmax, "logsumexp": rules.logsumexp,
    "layer_norm": made_of.layer_norm, "rms_norm": made_of.rms_norm, "group_norm": made_of.group_norm,
    "instance_norm": made_of.instance_norm, "glu": made_of.glu,
    "grid_sampler": rules.sample, "var": rules.variance, "std": made_of.standard_deviation,
    "var_mean": made_of.variance_and_mean, "std_mean": made_of.variance_and_mean,
    "scaled_dot_product_attention": made_of.attention, "cosine_similarity": made_of.cosine_similarity,
}  # fmt: skip

INPLACE_OPERATORS = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__imatmul__", "__ipow__")
WITHOUT_VALUES = ("zeros", "ones", "full", "empty", "rand", "new_", "size", "__len__")
"""How operations begin that look at nothing but a tensor's shape and kind."""


class OtherWayError(Exception):
    """The network does other operations for the chips than for the baseline."""


class DifferenceMode(TorchFunctionMode):
    """A network run over the baseline and then, after `replay`, over the chips; both while gradients are on.

    The weights have none, and the baseline has none, so that the first run keeps nothing but what rules ask for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.quadrature: set[str] = set()
        """As in `lift_rules.Run`."""
        self.cut: set[str] = set()
        """As in `lift_rules.Run`."""
        self._tape: list[tuple[str, list[Tensor]]] = []
        self._holders: dict[int, list[tuple[list[Tensor], int]]] = {}
        self._next: int | None = None
        self._name = ""

    def replay(self) -> DifferenceMode:
        """Begin the run over the chips."""
        self._next = 0
        self._holders.clear()
        return self

    def exchange(self, *values: Tensor) -> list[Tensor] | None:
        """As `lift_rules.Run` says."""
        if self._next is None:
            kept = [value.detach() for value in values]
            self._tape.append((self._name, kept))
            for i, value in enumerate(kept):
                self._holders.setdefault(value.untyped_storage().data_ptr(), []).append((kept, i))
            return None
        name, starts = self._tape[self._next] if self._next < len(self._tape) else ("nothing", [])
        if name != self._name or [start.shape for start in starts] != [value.shape for value in values]:
            raise OtherWayError(f"{self._name} where x- has {name}")
        self._tape[self._next] = name, []  # what was kept is free to go
        self._next += 1
        return starts

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation by its rule; what writes over its input gets the new values copied there."""
        kwargs = dict(kwargs or {})
        if not torch.is_grad_enabled():  # by the network's own wish, or a hook's that only looks
            return func(*args, **kwargs)
        name = func.__name__.partition(".")[0]  # operators of exported programs are called relu.default
        args, inplace = _split_inplace(func, args, kwargs)
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        if name.endswith("_") and not name.endswith("__"):
            name, inplace = name[:-1], True
        elif name in INPLACE_OPERATORS:
            name, inplace = f"__{name[3:]}", True
        elif name == "__setitem__":
            inplace = True
        if not inplace:
            return self._run(func, name, args, kwargs)
        target = args[0]
        out = self._run(_out_of_place(name), name, args, kwargs) if name in RULES else None
        self._preserve(target)
        return self._run(func, name, args, kwargs) if out is None else target.copy_(out)

    def _run(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        self._name = name
        if rule := RULES.get(name):
            return rule(self, func, *args, **kwargs)
        if name in LINEAR or name.startswith("__"):
            out = func(*args, **kwargs)
            self._note_cut(name, out, args)
            return out
        if isinstance(func, types.FunctionType) and func.__module__ == "torch.nn.functional":
            with self:
                return _opened(func)(*args, **kwargs)
        return self._by_quadrature(func, name, args, kwargs)

    def _by_quadrature(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        if not rules.floating_tensors((args, kwargs)):
            return func(*args, **kwargs)
        out = None if self._next is None else func(*args, **kwargs)
        if out is not None and not (isinstance(out, Tensor) and out.requires_grad) and _depends(args):
            self.cut.add(name)  # several results, as of a sort, or none with a gradient
            self.exchange(*rules.floating_tensors((args, kwargs)))
            return out
        return rules.mean_gradient(self, func, args, kwargs, rules.POINTS)

    def _note_cut(self, name: str, out: Any, args: Any) -> None:
        """Remember an operation whose result depends on the picture but has no gradient (comparisons, indices)."""
        lost = isinstance(out, Tensor) and not out.requires_grad and not name.startswith(WITHOUT_VALUES)
        if self._next is not None and lost and _depends(args):
            self.cut.add(name)

    def _preserve(self, target: Tensor) -> None:
        """Give what is kept of a tensor that will be written over a memory of its own."""
        for kept, i in self._holders.pop(target.untyped_storage().data_ptr(), []):
            kept[i] = kept[i].clone()


def _depends(args: Any) -> bool:
    return any(isinstance(one, Tensor) and one.requires_grad for one in pytree.tree_leaves(args))


def _split_inplace(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, bool]:
    """The arguments without `inplace`, the last one of the functions that have it, and whether it was asked for."""
    code = getattr(func, "__code__", None)
    if code is None or "inplace" not in (names := code.co_varnames[: code.co_argcount]):
        return args, False
    position = names.index("inplace")
    return args[:position], bool(args[position] if len(args) > position else kwargs.pop("inplace", False))


def _out_of_place(name: str) -> Callable[..., Tensor]:
    """The function that an operation in place has as its like."""
    return next(getattr(place, name) for place in (Tensor, torch, F) if hasattr(place, name))  # type: ignore[no-any-return]


@cache
def _opened(function: types.FunctionType) -> Callable[..., Any]:
    """A function of `torch.nn.functional` that goes on to its body, whose operations are then seen one by one.

    As it is, it would hand itself over to the mode again.
    """
    ignored = {name: lambda *_: False for name in function.__globals__ if name.startswith("has_torch_function")}
    body = types.FunctionType(
        function.__code__,
        function.__globals__ | ignored,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body
