"""Programs of `torch.export` (.pt2) as networks, read without PyTorch's reader, which runs what a file tells it to.

`torch.export.load` unpickles, and evaluates size expressions as Python: a made file had either run a command while it
was loaded (torch 2.13). But a .pt2 file is a zip of JSON and plain bytes. Here the graph's operators are called only if
they are in `OPERATORS`, functions of tensors that do nothing else, weights are taken as bytes, and whatever is pickled
is refused. Sizes come from the chips, so expressions are not needed.

The graph becomes arguments of `Program`, numbers and names alone, so that a checkpoint keeps it in its card and the
weights as safetensors like those of any other network.
"""

from __future__ import annotations

import json
import math
import operator
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import torch
from torch import Tensor, nn

from spacex.errors import CheckpointError
from spacex.models.classes import check_numbers
from spacex.models.third_party import ThirdPartySettings

_OPERATORS = """
    adaptive_avg_pool1d adaptive_avg_pool2d add addmm alias amax amin arange argmax avg_pool1d avg_pool2d baddbmm
    batch_norm bmm cat chunk clamp clamp_max clamp_min clone constant_pad_nd contiguous conv1d conv2d conv3d
    conv_transpose2d convolution cos cosine_similarity cumsum detach div dropout elu eq erf exp expand feature_dropout
    flatten flip full full_like gather ge gelu glu group_norm gt hardsigmoid hardswish hardtanh index index_select
    instance_norm layer_norm le leaky_relu lift_fresh_copy linalg_vector_norm linear log log_softmax logsumexp lt
    masked_fill matmul max max_pool2d max_pool2d_with_indices maximum mean min minimum mish mm movedim mul narrow ne neg
    new_ones new_zeros norm one_hot ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu reciprocal
    reflection_pad2d relu relu6 repeat repeat_interleave reshape rms_norm roll rsqrt rsub scaled_dot_product_attention
    select selu sigmoid silu sin slice softmax softplus split split_with_sizes sqrt square squeeze stack std sub sum
    sym_size t tanh tile to transpose tril triu type_as unbind unflatten unfold unsqueeze upsample_bicubic2d
    upsample_bilinear2d upsample_nearest2d var var_mean view view_as where zeros zeros_like _to_copy _unsafe_view"""
OPERATORS = frozenset(_OPERATORS.split())
"""Of PyTorch's own (aten), in place too: functions of tensors and sizes, without files, randomness or raw memory."""
NUMBERS: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "neg", "getitem")
}
"""What programs do with sizes and lists of tensors."""
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""By the format's numbers."""
MEMORY = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
WHAT = "the program cannot be read"


class Program(nn.Module):
    """Runs a graph of operators over chips.

    Args:
        chips: what the graph calls its input, (n, bands, h, w).
        logits: what it calls its result.
        tensors: of weights and constants, the graph's name, whether it is a parameter, number of its dtype, and shape.
        steps: operator, results, arguments, arguments by name; each argument and result as `_encode` has it.
        sizes: of one chip that it was exported for: bands, height, width.
    """

    def __init__(
        self, chips: str, logits: str, tensors: list[Any], steps: list[Any], sizes: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.chips, self.logits, self.sizes = chips, logits, tuple(sizes)
        for name, learns, kind, shape in tensors:
            values = torch.zeros(shape, dtype=DTYPES[kind])
            if learns:
                self.register_parameter(name, nn.Parameter(values, requires_grad=values.is_floating_point()))
            else:
                self.register_buffer(name, values)
        self.steps = [(_function(target), *rest) for target, *rest in steps]
        last = {name: i for i, (_, *parts) in enumerate(steps) for name in _named(parts)}
        self.done = [[name for name, at in last.items() if at == i and name != logits] for i in range(len(steps))]

    def forward(self, u: Tensor) -> Any:
        """Logits of standardised chips, as the program gives them."""
        values: dict[str, Any] = {self.chips: u, **dict(self.named_parameters()), **dict(self.named_buffers())}
        for (function, results, args, named), done in zip(self.steps, self.done, strict=True):
            out = function(
                *(_decode(one, values, u) for one in args), **{name: _decode(one, values, u) for name, one in named}
            )
            _keep(results, out, values)
            for name in done:
                del values[name]
        return values[self.logits]

    def reset_parameters(self) -> None:
        """Draw all matrices and kernels anew, 1 / fan-in their variance; what is one number per channel stays."""
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=weight[0].numel() ** -0.5)


def read_program(path: str) -> tuple[ThirdPartySettings, Program]:
    """A program of one input and one result, exported in eval mode, as what a card needs and the network itself.

    `path` may be any fsspec URI. To take batches of any size it must be exported so: `torch.export.export(network,
    (chips,), dynamic_shapes=({0: torch.export.Dim("batch")},))`, with two chips or more.

    Raises:
        CheckpointError: if it is no such file, holds pickled values, or calls an operator that is not in `OPERATORS`.
    """
    try:
        with fsspec.open(path) as file, zipfile.ZipFile(file) as archive:
            model = next(name for name in archive.namelist() if name.endswith("/models/model.json"))
            root = model.removesuffix("models/model.json")
            graph = json.loads(archive.read(model))["graph_module"]
            signature, graph = graph["signature"], graph["graph"]
            names = _names(signature)
            stored = _stored(archive, root, "weights") | _stored(archive, root, "constants")
            tensors = {name: stored[key] for name, key in names.items()}
            chips, logits = _ends(signature)
            sizes = [_size(size) for size in graph["tensor_values"][chips]["sizes"][1:]]
            steps = [_step(node) for node in graph["nodes"] if node["outputs"]]
        codes = {dtype: code for code, dtype in DTYPES.items()}
        described = [
            [name, isinstance(tensor, nn.Parameter), codes[tensor.dtype], list(tensor.shape)]
            for name, tensor in tensors.items()
        ]
        arguments: dict[str, Any] = {
            "chips": chips,
            "logits": logits,
            "tensors": described,
            "steps": steps,
            "sizes": sizes,
        }
        program = Program(**arguments)
        program.load_state_dict({name: tensor.detach() for name, tensor in tensors.items()})
    except CheckpointError:
        raise
    except Exception as error:  # zip, JSON and torch each have their own, by what is wrong with the file
        got = f"{type(error).__name__}: {error}"
        raise CheckpointError(WHAT, got=got, expected=f"a .pt2 file of torch.export.save, got {path}") from error
    check_numbers(tensors, path)
    return ThirdPartySettings(network=f"{__name__}:Program", arguments=arguments), program.eval()


def _names(signature: dict[str, Any]) -> dict[str, str]:
    """The graph's name of each weight and constant, and the name it is stored by."""
    stored_as = {}
    for spec in signature["input_specs"]:
        for kind, key in (
            ("parameter", "parameter_name"),
            ("buffer", "buffer_name"),
            ("tensor_constant", "tensor_constant_name"),
        ):
            if kind in spec:
                stored_as[spec[kind]["arg"]["name"]] = spec[kind][key]
    return stored_as


def _ends(signature: dict[str, Any]) -> tuple[str, str]:
    inputs = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
    outputs = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    if len(inputs) != 1 or len(outputs) != 1 or len(signature["output_specs"]) != 1:
        got = f"{len(inputs)} inputs and {len(signature['output_specs'])} results"
        do = "Export the network in eval mode, as a function of chips alone."
        raise CheckpointError(WHAT, got=got, expected="one input and one result", do=do)
    return inputs[0]["as_tensor"]["name"], outputs[0]["as_tensor"]["name"]


def _size(size: dict[str, Any]) -> int:
    """A number of bands or pixels, or what a variable one was at the export."""
    return int(size["as_int"] if "as_int" in size else size["as_expr"]["hint"]["as_int"])


def _stored(archive: zipfile.ZipFile, root: str, kind: str) -> dict[str, Tensor]:
    """Weights or constants by name, from plain bytes."""
    tensors = {}
    for name, entry in json.loads(archive.read(f"{root}data/{kind}/model_{kind}_config.json"))["config"].items():
        if entry["use_pickle"]:
            do = "Save it with plain strided tensors of ordinary types."
            raise CheckpointError(WHAT, got=f"{name} is pickled", expected="plain bytes", do=do)
        meta = entry["tensor_meta"]
        data = bytearray(archive.read(f"{root}data/{kind}/{entry['path_name']}"))
        dtype, shape = DTYPES[meta["dtype"]], [size["as_int"] for size in meta["sizes"]]
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
        strides = [step["as_int"] for step in meta["strides"]]
        tensor = flat.as_strided(shape, strides, meta["storage_offset"]["as_int"]).contiguous()
        learns = entry["is_param"] and tensor.is_floating_point()
        tensors[name] = nn.Parameter(tensor, requires_grad=False) if learns else tensor
    return tensors


def _step(node: dict[str, Any]) -> list[Any]:
    """A node of the graph as `Program` takes it."""
    target = node["target"].removeprefix("torch.ops.")
    _function(target)
    args = [_encode(given["arg"]) for given in node["inputs"] if given.get("kind") != 2]
    named = [[given["name"], _encode(given["arg"])] for given in node["inputs"] if given.get("kind") == 2]
    return [target, [_encode(out) for out in node["outputs"]], args, named]


def _function(target: str) -> Callable[..., Any]:
    """The operator of a name such as aten.conv2d.default, if it is allowed."""
    package, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    if package == "_operator" and rest in NUMBERS:
        return NUMBERS[rest]
    plain = name.removesuffix("_")
    known = getattr(torch.ops.aten, name, None) if package == "aten" and plain in OPERATORS else None
    function = getattr(known, overload, None)
    if not isinstance(function, torch._ops.OpOverload):
        do = "Wrap the network in a module of a package you trust, and name that."
        raise CheckpointError(WHAT, got=f"it calls {target}", expected="operators of a known list", do=do)
    return function


def _encode(value: dict[str, Any]) -> list[Any]:
    """An argument or result of the format as [kind, value ...]: a value by name, a list, a constant, and so on."""
    ((form, given),) = value.items()
    form = form.removeprefix("as_")
    if form == "none":
        return ["constant", None]
    if form in ("tensor", "sym_int", "optional_tensor") and isinstance(given, dict):
        inner = next(iter(given.items()))
        if inner[0] in ("name", "as_name"):
            return ["value", str(inner[1])]
        return ["constant", inner[1]] if inner[0] == "as_int" else _encode(given)
    if form == "tensors":
        return ["list", *(["value", one["name"]] for one in given)]
    if form == "sym_ints":
        return ["list", *(_encode({"as_sym_int": one}) for one in given)]
    if form == "optional_tensors":
        return ["list", *(_encode(one) for one in given)]
    if form in ("int", "bool", "string", "ints", "bools", "floats"):
        return ["constant", given]
    if form == "float":
        number = float(given)  # infinities are written in words
        return ["constant", number] if math.isfinite(number) else ["number", str(number)]
    if form in ("scalar_type", "memory_format", "device", "layout"):
        return [form, given if form in ("scalar_type", "memory_format") else None]
    raise CheckpointError(WHAT, got=f"an argument {form}", expected="tensors, numbers and names")


def _named(parts: list[Any]) -> Iterator[str]:
    """The names of all values in nested codes."""
    if len(parts) == 2 and parts[0] == "value":
        yield parts[1]
        return
    for part in parts:
        if isinstance(part, list):
            yield from _named(part)


def _decode(code: list[Any], values: dict[str, Any], u: Tensor) -> Any:
    kind, *rest = code
    if kind == "list":
        return [_decode(one, values, u) for one in rest]
    if kind == "value":
        return values[rest[0]]
    if kind == "scalar_type":
        return DTYPES[rest[0]]
    if kind == "memory_format":
        return MEMORY[rest[0]]
    if kind == "device":
        return u.device
    if kind == "layout":
        return torch.strided
    return float(rest[0]) if kind == "number" else rest[0]


def _keep(results: list[Any], out: Any, values: dict[str, Any]) -> None:
    """Give an operator's results their names."""
    if len(results) == 1 and results[0][0] == "list":
        results = results[0][1:]
    elif len(results) == 1:
        out = [out]
    for (kind, name), value in zip(results, out, strict=True):
        if kind == "value":
            values[name] = value
