"""What PyTorch's names are called here: the hint in the error when somebody types one that does not exist."""

FUNCTIONS = {
    "cat": "td.concat",
    "from_numpy": "td.asarray",
    "as_tensor": "td.asarray",
    "rand": "td.random.rand",
    "randn": "td.random.randn",
    "randint": "td.random.randint",
    "randperm": "td.random.randperm",
    "multinomial": "td.random.categorical",
    "float": "td.float32",
    "double": "td.float64",
    "half": "td.float16",
    "int": "td.int32",
    "long": "td.int64",
    "mm": "td.matmul",
    "bmm": "td.matmul",
    "gather": "td.take_along_axis",
    "clamp": "td.clip",
    "transpose": "td.swapaxes",
    "permute": "td.permute_dims",
    "unsqueeze": "td.expand_dims",
    "relu": "td.nn.functional.relu",
    "save": "td.nn.save, for state dicts",
    "load": "td.nn.load, for state dicts",
    "set_num_threads": "td.config.threads = ...",
    "inference_mode": "td.no_grad",
    "autograd": "td.grad, td.vjp and backward()",
    "utils": "td.data for loaders, td.optim for clipping",
    "device": "not needed: everything is on the CPU",
}

METHODS = {
    "t": ".T",
    "relu": "nn.functional.relu(x)",
    "eq": "x == y",
    "mm": "x @ y",
    "bmm": "x @ y",
    "dot": "x @ y",
    "type": ".astype(dtype)",
    "gather": "td.take_along_axis(x, index, axis=...)",
    "repeat": "td.tile(x, repeats)",
    "cuda": "not needed: everything is on the CPU",
    "data": ".value of a parameter, .detach() of a tensor",
    "norm": "(x * x).sum() ** 0.5",
}


def function_hint(name: str) -> str:
    """Return what to say after 'has no attribute `name`' of the module."""
    return f". PyTorch's {name} is here: {FUNCTIONS[name]}" if name in FUNCTIONS else ""


def method_hint(name: str) -> str:
    """Return what to say after 'has no attribute `name`' of a tensor."""
    if name in METHODS:
        return f". PyTorch's {name} is here: {METHODS[name]}"
    if name.endswith("_") and not name.startswith("_"):
        return f". Tensors do not change: use x = x.{name[:-1]}(...), or x = x.at[index].set(value)"
    return ""
