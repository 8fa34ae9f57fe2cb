"""The base of optimisers: parameter groups, state in cells, and a loop that applies a pure rule to each parameter.

State, step counter and learning rate are cells, so a compiled step reads and writes them, and changing the rate never
compiles anything again. The other settings are Python values that a compiled step depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from treadle.core import CheckpointError, ConfigError, DType, float32, int64
from treadle.tensor import Cell, Tensor, set_grad_enabled, state
from treadle.tensor.creation import asarray, zeros
from treadle.tensor.promotion import is_sequence

Rate = float | Callable[[Any], Any]
State = dict[str, Tensor]
Params = Iterable[Cell] | Iterable[Mapping[str, Any]]


class Group:
    """Parameters that share settings, read as attributes or items: `group["lr"] = 1e-3`."""

    def __init__(self, params: Sequence[Cell], lr: Rate, options: Mapping[str, Any]) -> None:
        self.params = list(params)
        self.options = dict(options)
        self.count = Cell(zeros((), dtype=int64))  # steps done
        self._schedule = lr if callable(lr) else None
        self._known = 0.0  # the rate as the user wrote it; the cell holds it rounded to float32
        self._rate = Cell(zeros((), dtype=float32))
        self.shared: dict[str, Cell] = {}  # state that is a number, the same for all parameters
        self.varying: dict[str, Cell] = {}  # settings that change from step to step, see `vary`
        if not callable(lr):
            self.lr = lr
        self.initial_lr: float | None = None  # what learning-rate schedulers start from, set by the first of them

    @property
    def lr(self) -> Any:
        """The learning rate: a number, or the schedule that gives it."""
        return self._known if self._schedule is None else self._schedule

    @lr.setter
    def lr(self, value: Rate) -> None:
        if callable(value):
            self._schedule = value
            return
        if not value >= 0:
            raise ConfigError(f"optim: the learning rate is {value}. It must be at least 0.")
        self._schedule = None
        self._known = float(value)
        self._rate.value = asarray(float(value), dtype=float32)

    def rate(self) -> Tensor:
        """Return the learning rate of the coming step, as a float32 scalar."""
        if state.trace is not None:
            state.trace.guard(self, "_schedule", self._schedule)
        if self._schedule is None:
            return self._rate.read()
        return asarray(self._schedule(self.count.read().astype(float32))).astype(float32)

    def first_rate(self) -> float:
        """Return the learning rate of the first step."""
        return float(self._known if self._schedule is None else self._schedule(0))

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield the step counter, the rate, the numbers all parameters share and varying settings, by name."""
        yield "count", self.count
        yield "lr", self._rate
        yield from self.shared.items()
        yield from self.varying.items()

    def vary(self, name: str, value: float) -> None:
        """Set a setting that is to change often: momentum, or the first beta. It becomes a cell, as the rate is.

        A compiled step then reads it, and does not depend on its value.
        """
        held = self.options[name]
        self.options[name] = (float(value), *held[1:]) if isinstance(held, tuple) else float(value)
        if name not in self.varying:
            self.varying[name] = Cell(zeros((), dtype=float32))
        self.varying[name].value = asarray(float(value), dtype=float32)

    @property
    def fixed(self) -> dict[str, Any]:
        """The parts of varying settings that do not vary."""
        rest = {name: self.options[name] for name in self.varying}
        return {name: value[1:] if isinstance(value, tuple) else () for name, value in rest.items()}

    def __getattr__(self, name: str) -> Any:
        options = self.__dict__.get("options", {})
        if name not in options:
            raise AttributeError(f"Group: there is no setting {name!r}. Allowed: lr, {', '.join(options)}.")
        value = options[name]
        if state.trace is None:
            return value
        if name in self.varying:
            state.trace.guard(self, "fixed", self.fixed)
            now = self.varying[name].read()
            return (now, *value[1:]) if isinstance(value, tuple) else now
        state.trace.guard(self, name, value)
        return value

    def __getitem__(self, name: str) -> Any:
        return self.params if name == "params" else getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in ("params", "lr") or name in self.options

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr":
            self.lr = value
        elif name in self.varying:
            self.vary(name, value[0] if is_sequence(value) else value)
            self.options[name] = value
        elif name in self.options:
            self.options[name] = value
        else:
            raise ConfigError(f"optim: there is no setting {name!r}. Allowed: lr, {', '.join(self.options)}.")

    def __repr__(self) -> str:
        rest = "".join(f", {name}={value}" for name, value in self.options.items())
        return f"Group({len(self.params)} parameters, lr={self.lr}{rest})"


class Optimizer:
    """Base of optimisers. A subclass says which state a parameter has and how one step changes it."""

    slots: tuple[str, ...] = ()  # names of the state tensors, each of the parameter's shape
    shared: tuple[str, ...] = ()  # names of numbers that all parameters of a group share

    def __init__(self, params: Params, lr: Rate, options: Mapping[str, Any]) -> None:
        if not hasattr(params, "__iter__"):
            raise ConfigError(
                f"{type(self).__name__}: a {type(params).__name__} is no list of parameters. Give model.parameters()."
            )
        given = list(params)  # once: it may be a generator
        if not given:
            raise ConfigError(
                f"{type(self).__name__}: there are no parameters. Give model.parameters(), not yet used up."
            )
        records = [g if isinstance(g, Mapping) else {"params": [g]} for g in given]
        if not isinstance(given[0], Mapping):
            records = [{"params": given}]
        self.param_groups: list[Group] = []
        self.state: dict[int, dict[str, Cell]] = {}
        self.defaults: dict[str, Any] = {"lr": lr, **options}
        for record in records:
            self.add_param_group(record)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters, under "params", with settings of their own; those not given are the optimiser's."""
        options = {name: value for name, value in self.defaults.items() if name != "lr"}
        self._add(dict(param_group), self.defaults["lr"], options)

    def _add(self, record: dict[str, Any], lr: Rate, options: Mapping[str, Any]) -> None:
        name = type(self).__name__
        params: list[Any] = list(record.pop("params", ()))
        unknown = set(record) - set(options) - {"lr"}
        if unknown:
            raise ConfigError(f"{name}: a group has {sorted(unknown)}. Allowed: params, lr, {', '.join(options)}.")
        for parameter in params:
            if not isinstance(parameter, Cell):
                raise ConfigError(f"{name}: a {type(parameter).__name__} is no parameter. Give nn.Parameter objects.")
            if id(parameter) in self.state:
                raise ConfigError(
                    f"{name}: a parameter of shape {list(parameter.shape)} is given twice. Give each once."
                )
            self.state[id(parameter)] = {}
        rate = record.pop("lr", lr)
        group = Group(params, rate, {**options, **record})
        for parameter in params:
            self.state[id(parameter)] = {slot: Cell(value) for slot, value in self.first(group, parameter).items()}
        group.shared = {name: Cell(value) for name, value in self.first_shared(group).items()}
        self.param_groups.append(group)

    def first(self, group: Group, parameter: Cell) -> State:
        """Return the state of a parameter before the first step: zeros of its shape, in at least 32 bits."""
        wide = state_dtype(parameter.dtype)
        return {slot: zeros(parameter.shape, dtype=wide) for slot in self.slots_of(group.options)}

    def complete_state(self) -> None:
        """Add the state that settings changed since the start need: momentum where there was none."""
        for group in self.param_groups:
            for parameter in group.params:
                held = self.state[id(parameter)]
                for slot, value in self.first(group, parameter).items():
                    held.setdefault(slot, Cell(value))

    def first_shared(self, group: Group) -> State:
        """Return the numbers a group's parameters share before the first step, float32 scalars."""
        return {name: zeros((), dtype=float32) for name in self.shared}

    def next_shared(self, group: Group, lr: Tensor, count: Tensor, shared: State) -> State:
        """Return the numbers a group's parameters share after the step `count`; updates see them as they were."""
        return shared

    def slots_of(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which state the parameters of a group with these settings need."""
        return self.slots

    def parameters(self) -> Iterator[Cell]:
        """Yield the parameters of all groups."""
        for group in self.param_groups:
            yield from group.params

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield everything that must be saved to go on from here, by a name that says whose it is."""
        number = 0
        for i, group in enumerate(self.param_groups):
            for name, cell in group.cells():
                yield f"group.{i}.{name}", cell
            for parameter in group.params:
                for name, cell in self.state[id(parameter)].items():
                    yield f"state.{number}.{name}", cell
                number += 1

    def zero_grad(self, set_to_none: bool = True) -> None:  # PyTorch's signature
        """Clear the gradient of every parameter; with `set_to_none=False`, those there are become zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is not None:
                parameter.grad = None if set_to_none else zeros(parameter.shape, dtype=parameter.dtype)

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the new state and what is added to the parameter; `count` is 1 in the first step."""
        raise NotImplementedError(f"{type(self).__name__}.update is not defined.")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient.

        A closure, as PyTorch knows it, computes gradients and returns the loss; it is called first, and its result is
        returned.
        """
        if closure is None:
            self._step()
            return None
        with set_grad_enabled(True):
            loss = closure()
        self._step()
        return loss

    def _step(self) -> None:
        with set_grad_enabled(False):
            for group in self.param_groups:
                ready = [(p, g) for p in group.params if (g := p.grad) is not None]
                if not ready:
                    continue
                lr, count = group.rate(), group.count.read() + 1
                shared = {name: cell.read() for name, cell in group.shared.items()}
                for parameter, grad in ready:
                    cells = self.state[id(parameter)]
                    value = parameter.read()
                    # 16-bit parameters are changed in float32, so that small steps are rounded once, at the end.
                    wide = state_dtype(value.dtype)
                    held = {name: cell.read() for name, cell in cells.items()}
                    held |= {name: number.astype(wide) for name, number in shared.items()}
                    slope = grad.astype(wide)
                    if "maximize" in group and group.maximize:
                        slope = -slope
                    held, change = self.update(
                        group, lr.astype(wide), count.astype(wide), value.astype(wide), slope, held
                    )
                    parameter.value = (value.astype(wide) + change).astype(value.dtype)
                    for name, cell in cells.items():
                        cell.value = held[name]
                for name, number in self.next_shared(group, lr, count.astype(float32), shared).items():
                    group.shared[name].value = number
                group.count.value = count

    # --- copying and pickling: state is found by the parameter's id, which a copy does not share

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "state": [self.state[id(parameter)] for parameter in self.parameters()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.state = {id(p): held for p, held in zip(self.parameters(), state["state"], strict=True)}

    # --- saving, in PyTorch's form

    def state_dict(self) -> dict[str, Any]:
        """Return state by number of the parameter and settings by group, as PyTorch does."""
        states: dict[int, dict[str, Any]] = {}
        groups: list[dict[str, Any]] = []
        number = 0
        for group in self.param_groups:
            numbers = list(range(number, number + len(group.params)))
            number += len(group.params)
            start = {} if group.initial_lr is None else {"initial_lr": group.initial_lr}
            groups.append({"lr": group.lr, **start, **group.options, "params": numbers})
            for i, parameter in zip(numbers, group.params, strict=True):
                cells = {**self.state[id(parameter)], **group.shared}
                states[i] = {"step": group.count.value, **{name: cell.value for name, cell in cells.items()}}
        return {"state": states, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` (here or in PyTorch) returned; nothing is changed when it does not fit."""
        name = type(self).__name__
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g.params) for g in self.param_groups]
        if sizes != own:
            raise CheckpointError(
                f"{name}: the state has groups of {sizes} parameters, this optimiser of {own}. Make it as it was "
                "when it was saved."
            )
        plan: list[tuple[Cell, Any]] = []
        for saved, group in zip(groups, self.param_groups, strict=True):
            for number, parameter in zip(saved["params"], group.params, strict=True):
                held: Mapping[str, Any] = state_dict["state"].get(number, {})
                for slot, cell in self.state[id(parameter)].items():
                    value = held.get(slot)
                    if value is None and held:
                        raise CheckpointError(
                            f"{name}: the state of parameter {number} has no {slot!r}, only {list(held)}."
                        )
                    if value is not None and tuple(value.shape) != cell.shape:
                        raise CheckpointError(
                            f"{name}: {slot} of parameter {number} is {list(value.shape)}, the parameter "
                            f"{list(cell.shape)}. "
                            "Use the model it was saved with."
                        )
                    plan.append((cell, zeros(cell.shape, dtype=cell.dtype) if value is None else asarray(value)))
        for saved, group in zip(groups, self.param_groups, strict=True):
            steps = [state_dict["state"].get(n, {}).get("step", 0) for n in saved["params"]]
            group.count.value = asarray(int(max(map(float, steps), default=0)), dtype=int64)
            for option in group.options:
                if option in saved:
                    group[option] = saved[option]
            if "lr" in saved:
                group.lr = saved["lr"]
            group.initial_lr = saved.get("initial_lr", group.initial_lr)
            for name, cell in group.shared.items():
                found = [h[name] for n in saved["params"] if name in (h := state_dict["state"].get(n, {}))]
                if found:
                    cell.value = asarray(found[0]).reshape(()).astype(float32)
        for cell, value in plan:
            cell.value = value.astype(cell.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.param_groups))})"


def decayed(group: Group, param: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient with the setting weight_decay times the parameter added."""
    return grad + param * group.weight_decay if group.weight_decay else grad


def state_dtype(dtype: DType) -> DType:
    """Return the dtype of the state: sums of many small numbers do not fit 16 bits."""
    return float32 if dtype.bits < 32 else dtype
