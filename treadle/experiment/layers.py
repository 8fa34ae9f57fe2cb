"""Domains and layers after Tang, Agarwal, O'Brien and Meyer, "Overlapping experiment infrastructure", KDD 2010.

A *domain* is a part of the traffic; it holds layers. A *layer* shuffles the units of its domain into buckets with a
salt of its own, so that layers are orthogonal; its buckets belong to experiments, or to nested domains, or are free,
or held out, so that inside a layer experiments are exclusive.

    Domain "all" (global hold-out 5 %)
    ├── Layer "ranking"   buckets 0..2000: experiment A   2000..4000: experiment B   9000..10000: hold-out of the layer
    └── Layer "ui"        buckets 0..10000: experiment C, overlaps A and B independently

Everything is a value: each change returns a new layer. What never moves a user who is in: more traffic (the set of
buckets in use only grows), new or ended experiments elsewhere in the layer. `Layer.resalt` shuffles everybody anew,
which is how carry-over from an ended experiment is broken.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from treadle.core.errors import ConfigError
from treadle.experiment.conditions import Condition
from treadle.experiment.hashing import Unit, salt_of
from treadle.experiment.split import Split

BUCKETS = 10_000

Range = tuple[int, int]  # [start, stop)


@dataclass(frozen=True)
class Allocation:
    """An experiment's place in a layer.

    Args:
        experiment: its key, unique in the domain.
        split: the variants and their slots.
        ranges: the buckets it may use, half open.
        traffic: the part of these buckets in use, the first ones: raise it to ramp up.
        version: of the shuffle into variants; raise it to shuffle the same users anew.
        conditions: what a unit's attributes must fulfil, all of them; checked before the variant is drawn.
        allow: the only units that may take part, or None for everybody.
        forced: units with a variant by decree (testers). They skip every gate, and an analysis leaves them out.
    """

    experiment: str
    split: Split
    ranges: tuple[Range, ...] = ((0, BUCKETS),)
    traffic: float = 1.0
    version: int = 1
    conditions: tuple[Condition, ...] = ()
    allow: frozenset[Unit] | None = None
    forced: Mapping[Unit, str] = field(default_factory=dict[Unit, str])

    def __post_init__(self) -> None:
        if not 0 <= self.traffic <= 1:
            raise ConfigError(
                f"experiment {self.experiment!r}: traffic is {self.traffic}; it is a share of its buckets, between 0 "
                "and 1."
            )
        unknown = sorted({variant for variant in self.forced.values() if variant not in self.split.variants})
        if unknown:
            raise ConfigError(
                f"experiment {self.experiment!r}: units are forced into {unknown}; its variants are "
                f"{list(self.split.variants)}."
            )

    @property
    def key(self) -> str:
        """The key of what the buckets belong to."""
        return self.experiment

    @property
    def active(self) -> tuple[Range, ...]:
        """The buckets in use at this traffic: the first of `ranges`, so that a higher traffic only adds."""
        left = round(self.traffic * sum(stop - start for start, stop in self.ranges))
        taken: list[Range] = []
        for start, stop in self.ranges:
            size = min(left, stop - start)
            if size:
                taken.append((start, start + size))
            left -= size
        return tuple(taken)

    def variant_salt(self, layer: "Layer") -> int:
        """The salt of the hash that draws the variant."""
        return salt_of("variant", layer.key, layer.version, self.experiment, self.version)


@dataclass(frozen=True)
class Nested:
    """A domain inside a layer: its layers see only the units in these buckets."""

    domain: "Domain"
    ranges: tuple[Range, ...]

    @property
    def key(self) -> str:
        """The key of what the buckets belong to."""
        return self.domain.key

    @property
    def active(self) -> tuple[Range, ...]:
        """The buckets in use."""
        return self.ranges


@dataclass(frozen=True)
class Layer:
    """One shuffle of the units into buckets, and who owns the buckets.

    Args:
        key: its name, unique in the domain; with `version` it makes the salt.
        version: raise it (`resalt`) to shuffle anew.
        buckets: how many; the smallest step of traffic is one.
        holdout: the part of the buckets, the last ones, that no experiment may use.
        entries: experiments and nested domains.
        fallthrough: whether entries may share buckets. They are then tried in order; a unit that fails the conditions
            of one falls through to the next. Every entry that shares its buckets with a later one must have
            conditions.
    """

    key: str
    version: int = 1
    buckets: int = BUCKETS
    holdout: float = 0.0
    entries: tuple[Allocation | Nested, ...] = ()
    fallthrough: bool = False

    def __post_init__(self) -> None:
        if not self.key:
            raise ConfigError("layer: the key is empty; it names the layer and makes its salt; give it a name.")
        if self.buckets < 1 or not 0 <= self.holdout < 1:
            raise ConfigError(
                f"layer {self.key!r}: {self.buckets} buckets with hold-out {self.holdout}; at least 1 bucket and a "
                "share in [0, 1)."
            )
        for entry in self.entries:
            self._check_ranges(entry)
        for i, first in enumerate(self.entries):
            for second in self.entries[i + 1 :]:
                self._check_pair(first, second)

    @property
    def salt(self) -> int:
        """The salt of the hash that draws the bucket: from key and version."""
        return salt_of("layer", self.key, self.version)

    @property
    def usable(self) -> int:
        """The number of buckets that are not held out."""
        return self.buckets - round(self.holdout * self.buckets)

    @property
    def free(self) -> tuple[Range, ...]:
        """The buckets nobody owns and that are not held out."""
        free: list[Range] = []
        at = 0
        for start, stop in sorted(r for entry in self.entries for r in entry.ranges):
            if start > at:
                free.append((at, start))
            at = max(at, stop)
        return tuple([*free, (at, self.usable)] if at < self.usable else free)

    def add(
        self,
        experiment: str,
        split: Split,
        *,
        share: float,
        traffic: float = 1.0,
        conditions: tuple[Condition, ...] = (),
    ) -> "Layer":
        """The layer with an experiment in the first free buckets, `share` of the layer's in all.

        Raises:
            ConfigError: not enough free buckets, or the key is taken.
        """
        wanted = round(share * self.buckets)
        left, ranges = wanted, list[Range]()
        for start, stop in self.free:
            size = min(left, stop - start)
            if size:
                ranges.append((start, start + size))
            left -= size
        if left or not wanted:
            raise ConfigError(
                f"layer {self.key!r}: experiment {experiment!r} asks for {wanted:,} buckets and "
                f"{wanted - left:,} of {self.buckets:,} are "
                f"free ({_owners(self)}); lower the share, end an experiment, or use another "
                "layer."
            )
        entry = Allocation(experiment, split, tuple(ranges), traffic, conditions=conditions)
        return replace(self, entries=(*self.entries, entry))

    def end(self, experiment: str) -> "Layer":
        """The layer without that experiment. Its buckets are free, and its users carry what they saw until `resalt`."""
        gone = self.experiment(experiment)
        return replace(self, entries=tuple(entry for entry in self.entries if entry is not gone))

    def ramp(self, experiment: str, traffic: float, *, shrink: bool = False) -> "Layer":
        """The layer with another part of the experiment's buckets in use; users who are in stay, with their variant.

        Raises:
            ConfigError: a smaller traffic, which throws users out, without `shrink`.
        """
        entry = self.experiment(experiment)
        if traffic < entry.traffic and not shrink:
            raise ConfigError(
                f"experiment {experiment!r}: traffic {traffic:g} is below the present {entry.traffic:g}, "
                "which would throw users out; say "
                "shrink=True to mean it."
            )
        return self._replace(entry, replace(entry, traffic=traffic))

    def reweight(self, experiment: str, weights: Mapping[str, float]) -> "Layer":
        """The layer with other weights; the fewest users change variant (`Split.reweight`)."""
        entry = self.experiment(experiment)
        return self._replace(entry, replace(entry, split=entry.split.reweight(weights)))

    def resalt(self) -> "Layer":
        """The layer under its next version: every unit gets a new bucket, which breaks carry-over.

        Raises:
            ConfigError: experiments run in it; they would lose their users.
        """
        running = [entry.key for entry in self.entries]
        if running:
            raise ConfigError(
                f"layer {self.key!r}: {running} run in it, and a new salt would move their users to "
                "other buckets and variants; end them "
                "first, or raise the version of one experiment to shuffle only its "
                "variants."
            )
        return replace(self, version=self.version + 1)

    def experiment(self, key: str) -> Allocation:
        """The allocation of that experiment."""
        for entry in self.entries:
            if isinstance(entry, Allocation) and entry.experiment == key:
                return entry
        raise ConfigError(
            f"layer {self.key!r}: there is no experiment {key!r}; it has {[entry.key for entry in self.entries]}."
        )

    def _replace(self, old: Allocation, new: Allocation) -> "Layer":
        return replace(self, entries=tuple(new if entry is old else entry for entry in self.entries))

    def _check_ranges(self, entry: Allocation | Nested) -> None:
        at = -1
        for start, stop in sorted(entry.ranges):
            if not 0 <= start < stop <= self.usable or start < at:
                held = f"; {self.usable}..{self.buckets} are held out" if self.holdout else ""
                raise ConfigError(
                    f"layer {self.key!r}: {entry.key!r} has buckets {start}..{stop}; ranges are not "
                    "empty, do not overlap and lie in "
                    f"0..{self.usable}{held}."
                )
            at = stop

    def _check_pair(self, first: Allocation | Nested, second: Allocation | Nested) -> None:
        if first.key == second.key:
            raise ConfigError(
                f"layer {self.key!r}: {first.key!r} stands in it twice; keys are unique; give one of them another."
            )
        shared = sum(max(0, min(b, d) - max(a, c)) for a, b in first.ranges for c, d in second.ranges)
        if not shared:
            return
        if not self.fallthrough:
            raise ConfigError(
                f"layer {self.key!r}: {first.key!r} {list(first.ranges)} and {second.key!r} "
                f"{list(second.ranges)} overlap in {shared:,} "
                "buckets; inside a layer experiments are exclusive; move one (free: "
                f"{list(self.free)}), put it into another layer, or give conditions and set "
                "fallthrough."
            )
        if not isinstance(first, Allocation) or not first.conditions:
            raise ConfigError(
                f"layer {self.key!r}: {second.key!r} shares {shared:,} buckets with {first.key!r}, which "
                "has no conditions, so that no unit "
                "would ever fall through; give it conditions."
            )


@dataclass(frozen=True)
class Domain:
    """A part of the traffic and its layers; the outermost one is all of it.

    Args:
        key: its name, unique in the tree.
        layers: all of them see every unit of the domain.
        holdout: the part of the units that no layer sees: the global hold-out when the domain is the outermost.
        version: of the hold-out's shuffle.
    """

    key: str
    layers: tuple[Layer, ...]
    holdout: float = 0.0
    version: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 1:
            raise ConfigError(f"domain {self.key!r}: the hold-out is {self.holdout}; it is a share in [0, 1).")
        names = list(self._keys())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"domain {self.key!r}: {[' '.join(name) for name in twice]} occur more than once; keys "
                "are unique in the tree, since "
                "they make the salts: equal ones would shuffle alike."
            )

    @property
    def holdout_salt(self) -> int:
        """The salt of the hash that draws the hold-out."""
        return salt_of("holdout", self.key, self.version)

    def path(self, experiment: str) -> tuple[tuple["Domain", Layer, Allocation | Nested], ...]:
        """The way from this domain down to an experiment: (domain, layer, entry) at each level.

        Raises:
            ConfigError: no such experiment.
        """
        found = self._path(experiment)
        if not found:
            raise ConfigError(
                f"domain {self.key!r}: there is no experiment {experiment!r}; it has {list(self.experiments())}."
            )
        return found

    def experiments(self) -> Iterator[str]:
        """The keys of all experiments, outermost first."""
        yield from (name for kind, name in self._keys() if kind == "experiment")

    def _path(self, experiment: str) -> tuple[tuple["Domain", Layer, Allocation | Nested], ...]:
        for layer in self.layers:
            for entry in layer.entries:
                if isinstance(entry, Nested):
                    below = entry.domain._path(experiment)
                    if below:
                        return ((self, layer, entry), *below)
                elif entry.experiment == experiment:
                    return ((self, layer, entry),)
        return ()

    def _keys(self) -> Iterator[tuple[str, str]]:
        yield ("domain", self.key)
        for layer in self.layers:
            yield ("layer", layer.key)
            for entry in layer.entries:
                if isinstance(entry, Nested):
                    yield from entry.domain._keys()
                else:
                    yield ("experiment", entry.experiment)


def _owners(layer: Layer) -> str:
    owned = [f"{entry.key} has {sum(stop - start for start, stop in entry.ranges):,}" for entry in layer.entries]
    return ", ".join([*owned, f"{layer.buckets - layer.usable:,} are held out"])
