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
    "clamp": "td.clip",
    "transpose": "td.swapaxes",
    "permute": "td.permute_dims",
    "unsqueeze": "td.expand_dims",
    "relu": "td.nn.functional.relu",
    "save": "td.nn.save, for state dicts",
    "load": "td.nn.load, for state dicts",
    "det": "td.linalg.det",
    "cholesky": "td.linalg.cholesky",
    "norm": "td.linalg.norm",
    "cross": "td.linalg.cross",
    "matrix_exp": "td.linalg.matrix_exp",
    "matrix_power": "td.linalg.matrix_power",
    "slogdet": "td.linalg.slogdet",
    "svd": "td.linalg.svd",
    "qr": "td.linalg.qr",
    "lstsq": "td.linalg.lstsq",
    "cholesky_solve": "td.linalg.cholesky_solve",
    "cholesky_inverse": "td.linalg.cholesky_inverse",
    "vander": "td.linalg.vander",
    "inverse": "td.linalg.inv",
    "pinverse": "td.linalg.pinv",
    "chain_matmul": "td.linalg.multi_dot",
    "logdet": "td.linalg.slogdet(x).logabsdet, where the sign is 1",
    "vdot": "td.dot",
    "triangular_solve": "td.linalg.solve_triangular",
    "clamp_min": "td.clip(x, min=...)",
    "clamp_max": "td.clip(x, max=...)",
    "mul": "td.multiply",
    "sub": "td.subtract",
    "div": "td.divide",
    "true_divide": "td.divide",
    "neg": "td.negative",
    "eq": "td.equal",
    "ne": "td.not_equal",
    "lt": "td.less",
    "le": "td.less_equal",
    "gt": "td.greater",
    "ge": "td.greater_equal",
    "bitwise_not": "td.bitwise_invert",
    "amax": "td.max",
    "amin": "td.min",
    "unbind": "td.unstack",
    "movedim": "td.moveaxis",
    "take_along_dim": "td.take_along_axis",
    "row_stack": "td.vstack",
    "trapz": "td.trapezoid",
    "mvlgamma": "td.special.multigammaln",
    "igamma": "td.special.gammainc",
    "igammac": "td.special.gammaincc",
    "sgn": "td.sign",
    "rsub": "td.subtract",
    "broadcast_tensors": "td.broadcast_arrays",
    "normal": "td.random.normal",
    "bernoulli": "td.random.bernoulli",
    "numel": "x.size",
    "from_file": "td.asarray(numpy.memmap(...))",
    "lu": "td.linalg.solve, det and inv; scipy.linalg.lu for the factors: NumPy has none",
    "lu_factor": "td.linalg.solve, det and inv; scipy.linalg.lu_factor for the factors: NumPy has none",
    "set_num_threads": "td.config.threads = ...",
    "inference_mode": "td.no_grad",
    "autograd": "td.grad, td.vjp and backward()",
    "utils": "td.data for loaders, td.nn.utils for clipping",
    **dict.fromkeys(("complex64", "complex128"), "out of scope: numbers are real"),
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
    "repeat": "td.tile(x, repeats)",
    "cuda": "not needed: everything is on the CPU",
    "normal_": "nn.init.normal_(parameter)",
    "uniform_": "nn.init.uniform_(parameter)",
    "data": ".value of a parameter, .detach() of a tensor",
    "norm": "td.linalg.norm(x)",
    "ne": "x != y",
    "add": "x + y",
    "sub": "x - y",
    "mul": "x * y",
    "div": "x / y",
    "neg": "-x",
    "new_full": "td.full(shape, value, dtype=x.dtype)",
    "lt": "x < y",
    "gt": "x > y",
    "le": "x <= y",
    "ge": "x >= y",
    "outer": "x[:, None] * y",
    "where": "td.where(condition, x, y)",
    "expand_as": ".broadcast_to(y.shape)",
    "view_as": ".reshape(y.shape)",
    "type_as": ".astype(y.dtype)",
    "new_zeros": "td.zeros(shape, dtype=x.dtype)",
    "new_ones": "td.ones(shape, dtype=x.dtype)",
    "unbind": "tuple(x)",
    "movedim": "td.moveaxis(x, from, to)",
    "nelement": ".numel()",
    "element_size": ".itemsize",
    "stride": "not needed: tensors have no strides",
    "is_contiguous": "not needed: tensors have no strides",
    "grad_fn": "td.grad of a function; .requires_grad says whether there is a gradient",
}


def function_hint(name: str) -> str:
    """Return what to say after 'has no attribute `name`' of the module."""
    return f". PyTorch's {name} is here: {FUNCTIONS[name]}" if name in FUNCTIONS else ""


MODULES = {
    "cuda": "not needed: everything is on the CPU",
    "compile": "td.compile(module), or better of the whole step",
    "register_backward_hook": "register_full_backward_hook",
}


def module_hint(name: str) -> str:
    """Return what to say after 'has no attribute `name`' of a module."""
    return f". PyTorch's {name} is here: {MODULES[name]}" if name in MODULES else ""


def method_hint(name: str) -> str:
    """Return what to say after 'has no attribute `name`' of a tensor."""
    if name in METHODS:
        return f". PyTorch's {name} is here: {METHODS[name]}"
    if name.endswith("_") and not name.startswith("_"):
        return f". Tensors do not change: use x = x.{name[:-1]}(...), or x = x.at[index].set(value)"
    return ""
