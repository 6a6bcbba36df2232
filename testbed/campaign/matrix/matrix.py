"""Matrix: the cells that a matrix file means, made when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from testbed.campaign.disk_line import WORD, asked_line, silent, with_disk_line
from testbed.campaign.matrix.axes import DEFAULTS, SETUP_AXES, Axes, Picker, Place, Value, label_of
from testbed.campaign.matrix.grid import Grid
from testbed.campaign.setups import read_one_setup, read_parameters, read_scenario, read_setups
from testbed.host.accel import CHOICES
from testbed.image.recipe import image_name, load_recipe
from testbed.machine.template import load_template
from testbed.model.catalog import unknown
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError
from testbed.model.matrix import MatrixRow
from testbed.model.outcome import Cell, Verdict
from testbed.scenarios.scenario import find_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from testbed.campaign.matrix.file import Expect, Include, MatrixFile, MatrixSource, Row
    from testbed.image.source import Progress
    from testbed.model.setup import Setup
    from testbed.model.yaml_reader import NodePath

    Asked = tuple[str, dict[str, Any]]  # a scenario with its options
    Expected = tuple[Verdict, str]  # and the outcome

#: more cells than this are likely a slip
MANY_CELLS = 100_000
#: and more combinations than this are not even gone through
_TOO_MANY = 10_000_000
_MACHINE_AXES = ("machine", "parameters", "cpu")


@dataclass(frozen=True, kw_only=True)
class Matrix(Grid):
    """Cells, each repeat of one a cell of its own; the repeats of a cell are adjacent."""

    file: MatrixFile
    axes: Axes
    places: tuple[Place, ...]
    scenarios: Mapping[int, Asked]  #: by number on their axis
    setups: Mapping[tuple[int, ...], Setup]  #: by the numbers on the axes that describe a machine
    lines: Mapping[tuple[str, str], str]  #: what stands for `@image`, by image and what is written
    expected: tuple[tuple[Picker, Expected], ...]
    unstable: tuple[tuple[Picker, str], ...]

    def __len__(self) -> int:
        return len(self.places) * self.file.repeat

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Cell]: ...
    def __getitem__(self, index: int | slice) -> Cell | Sequence[Cell]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = self.place(index)
        scenario, options = self.scenarios[place[0]]
        setup = self.setups[_machine_place(place)].model_copy(update=_varied(self.axes, place))
        if line := self.lines.get((setup.image, setup.cmdline)):
            setup = setup.model_copy(update={"cmdline": line})
        return Cell.of(
            setup,
            scenario,
            options=options,
            start="fresh" if self.file.fresh else "auto",
            time=self.file.time,
            **self._expected(place),
        )

    @property
    def title(self) -> str:
        """Return the title that the file gives it."""
        return self.file.title

    @property
    def axis_labels(self) -> dict[str, list[str]]:
        """Return the values on each axis, in order."""
        pairs = zip(DEFAULTS, self.axes.values, strict=True)
        return {axis: [value.label for value in values] for axis, values in pairs}

    def row(self, index: int) -> MatrixRow:
        """Return a cell's position on the axes."""
        place = self.place(index)
        return MatrixRow(
            axes=self.axes.labels(place), attempt=self.attempt(index), unstable=self.unstable_reason(place)
        )

    def place(self, index: int) -> Place:
        """Return the values of a cell, as numbers on the axes."""
        return self.places[index // self.file.repeat]

    def attempt(self, index: int) -> int:
        """Return which repeat of its cell this is, from 1."""
        return index % self.file.repeat + 1

    def unstable_reason(self, place: Place) -> str:
        """Return why the verdict of a cell decides nothing; empty if it does."""
        return next((reason for picker, reason in reversed(self.unstable) if picker.picks(place)), "")

    def _expected(self, place: Place) -> dict[str, Any]:
        """Return the verdict and outcome a cell must have; the last rule that fits it counts."""
        fitting = (expected for picker, expected in reversed(self.expected) if picker.picks(place))
        verdict, outcome = next(fitting, (None, ""))
        return {"expected": verdict, "expected_outcome": outcome}


def expand(source: MatrixSource, *, many: bool = False, progress: Progress = silent) -> Matrix:
    """Return the cells of a matrix; raise InputError naming what is wrong, or if there are none or too many.

    More than MANY_CELLS cells are allowed with `many`. `progress` hears of disks that are read for their command lines.
    """
    file = source.file
    axes = _axes(source)
    places = _places(source, axes, many=many)
    scenarios = {n: read_scenario(axes.values[0][n].given) for n in {place[0] for place in places}}
    by_loader = {n for n, (name, _) in scenarios.items() if find_scenario(name).by_loader}
    setups = _setups(axes, places, by_loader, progress)
    rules: list[tuple[str, int, Expect | Include]] = [
        *(("expect", n, rule) for n, rule in enumerate(file.expect)),
        *(("include", n, rule) for n, rule in enumerate(file.include)),
    ]
    return Matrix(
        file=file,
        axes=axes,
        places=places,
        scenarios=scenarios,
        setups=setups,
        lines=_lines(axes, places, setups, by_loader, progress),
        expected=tuple(
            (_picker(source, axes, (key, n), rule), (rule.verdict, rule.outcome))
            for key, n, rule in rules
            if rule.verdict
        ),
        unstable=tuple(
            (_picker(source, axes, ("unstable", n), rule), rule.reason) for n, rule in enumerate(file.unstable)
        ),
    )


def _axes(source: MatrixSource) -> Axes:
    """Return the values on every axis: those of the product, then those that only `include` has."""
    if source.file.axes.scenario is None:
        raise source.error(("axes",), "there is no scenario", "name one, for example disk-unplug; see: testbed list")
    values = []
    for axis, default in DEFAULTS.items():
        given = getattr(source.file.axes, axis)
        found = _values(source, axis, given, ("axes", axis)) if given is not None else [_value(default)]
        if twice := _twice([value.label for value in found]):
            raise source.error(
                ("axes", axis), f"{twice!r} is given twice", "to run cells more than once, say repeat: 3"
            )
        values.append(found)
    combined = tuple(map(len, values))
    for number, row in enumerate(source.file.include):
        for at, (axis, given) in _numbered(row):
            there = {value.label for value in values[at]}
            further = _values(source, axis, given, ("include", number, axis))
            values[at] += [value for value in further if value.label not in there]
    return Axes(values=tuple(map(tuple, values)), combined=combined)


def _numbered(row: Row) -> list[tuple[int, tuple[str, list[Any]]]]:
    given = row.given()
    return [(at, (axis, given[axis])) for at, axis in enumerate(DEFAULTS) if axis in given]


def _values(source: MatrixSource, axis: str, given: Iterable[Any], path: NodePath) -> list[Value]:
    """Return the values of an axis, each checked as far as that can be done by itself."""
    values: list[Value] = []
    for number, each in enumerate(given):
        try:
            values += _machine_values(each, source.file) if axis == "machine" else [_checked(axis, each)]
        except InputError as error:
            at = (*path, number) if (*path, number) in source.document.lines else path
            raise source.error(at, error.message, error.hint) from None
    return values


def _machine_values(text: str, file: MatrixFile) -> list[Value]:
    """Return the machine, or one for each machine type of a pattern such as `pc-q35-*`."""
    return [_value(each.label) for each in read_setups(text, qemus=file.axes.qemu or [""])]


def _checked(axis: str, given: Any) -> Value:
    if axis in _CHECKS:
        _CHECKS[axis](given)
    return _value(given)


def _check_accel(name: str) -> None:
    if name not in CHOICES:
        raise unknown("accelerator", name, CHOICES)


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "scenario": read_scenario,
    "cmdline": lambda text: CommandLine(text).check(),
    "image": lambda text: load_recipe(image_name(text)),
    "accel": _check_accel,
}


def _value(given: Any) -> Value:
    return Value(label=label_of(given), given=given)


def _twice(labels: Sequence[str]) -> str | None:
    return next((label for number, label in enumerate(labels) if label in labels[:number]), None)


def _places(source: MatrixSource, axes: Axes, *, many: bool) -> tuple[Place, ...]:
    """Return the cells of the product that are not excluded, and those that are included."""
    if axes.combinations > _TOO_MANY:
        raise source.error(("axes",), f"{axes.combinations} combinations, more than {_TOO_MANY}", "vary less at once")
    file = source.file
    excluded = [_picker(source, axes, ("exclude", number), row) for number, row in enumerate(file.exclude)]
    places: dict[Place, None] = {}
    for place in axes.product():
        if not any(picker.picks(place) for picker in excluded):
            places[place] = None
    for number, row in enumerate(file.include):
        places |= dict.fromkeys(_included(source, axes, number, row))
    count = len(places) * file.repeat
    if not places:
        raise InputError(f"{source.document.source}: 0 cells: every one is excluded", hint="exclude less")
    if count > MANY_CELLS and not many:
        raise InputError(
            f"{source.document.source}: {count} cells, more than {MANY_CELLS}", hint="if that is meant, add --yes"
        )
    return tuple(places)


def _included(source: MatrixSource, axes: Axes, number: int, row: Row) -> Iterable[Place]:
    """Return the cells of an `include`; an axis it does not name must have one value only."""
    wanted = {axis: [label_of(each) for each in given] for axis, given in row.given().items()}
    for axis, values, combined in zip(DEFAULTS, axes.values, axes.combined, strict=True):
        if axis not in wanted and combined > 1:
            there = ", ".join(repr(value.label) for value in values[:combined])
            raise source.error(("include", number), f"which {axis}?", f"name one, or several, of {there}")
        wanted.setdefault(axis, [values[0].label])
    return _picked(source, axes, ("include", number), wanted).places()


def _picker(source: MatrixSource, axes: Axes, path: NodePath, row: Row) -> Picker:
    given = {axis: [label_of(each) for each in values] for axis, values in row.given().items()}
    if not given:
        raise source.error(path, "names no axis", f"name at least one of {', '.join(DEFAULTS)}")
    return _picked(source, axes, path, given)


def _picked(source: MatrixSource, axes: Axes, path: NodePath, wanted: Mapping[str, Sequence[str]]) -> Picker:
    try:
        return axes.picker(wanted)
    except InputError as error:
        raise source.error(path, error.message, error.hint) from None


def _machine_place(place: Place) -> tuple[int, ...]:
    """Return the numbers of what describes a cell's machine."""
    return tuple(place[at] for at, axis in enumerate(DEFAULTS) if axis in _MACHINE_AXES)


def _varied(axes: Axes, place: Place) -> dict[str, Any]:
    """Return what a cell has of the axes that are fields of a setup, where it is not the default."""
    given = axes.given(place)
    return {axis: given[axis] for axis in SETUP_AXES if given[axis] != DEFAULTS[axis]}


def _setups(
    axes: Axes, places: Iterable[Place], by_loader: set[int], progress: Progress
) -> dict[tuple[int, ...], Setup]:
    """Return the setup of every machine; raise InputError where another axis says otherwise than it does.

    `by_loader` are the scenarios, by number, whose guest a disk's own loader boots.
    """
    loaders = {_machine_place(place) for place in places if place[0] in by_loader}
    machines = dict.fromkeys(map(_machine_place, places))
    setups = {at: _setup(axes, at, by_loader=at in loaders, progress=progress) for at in machines}
    varied = {(_machine_place(place), each) for place in places for each in _varied(axes, place).items()}
    for at, (name, value) in sorted(varied):
        if getattr(setups[at], name) not in (DEFAULTS[name], value):
            raise InputError(f"matrix: machine {setups[at]}: {name} is given twice, also as {value!r}")
    return setups


def _lines(
    axes: Axes,
    places: Iterable[Place],
    setups: Mapping[tuple[int, ...], Setup],
    by_loader: set[int],
    progress: Progress,
) -> dict[tuple[str, str], str]:
    """Return the command lines that `@image` stands for, looking up each disk only once."""
    written = {str(value.given) for value in axes.values[list(DEFAULTS).index("cmdline")]}
    if not any(map(WORD.fullmatch, written)):
        return {}
    varied = ((place[0], setups[_machine_place(place)].model_copy(update=_varied(axes, place))) for place in places)
    asked = (each for scenario, each in varied if asked_line(each, by_loader=scenario in by_loader))
    wanted = {(each.image, each.cmdline): each for each in asked}
    return {key: with_disk_line(setup, progress=progress).cmdline for key, setup in wanted.items()}


def _setup(axes: Axes, numbers: tuple[int, ...], *, by_loader: bool, progress: Progress) -> Setup:
    """Return the machine with all its parameters; raise InputError if one is wrong or said twice."""
    values = dict(zip(DEFAULTS, axes.values, strict=True))
    machine, parameters, cpu = (values[axis][n].given for axis, n in zip(_MACHINE_AXES, numbers, strict=True))
    setup = read_one_setup(machine, by_loader=by_loader, progress=progress)
    further = parameters if isinstance(parameters, dict) else read_parameters(setup.machine, parameters)
    merged = dict(setup.parameters)
    for name, value in (*further.items(), *((("cpu", cpu),) if cpu else ())):
        if name in merged:
            raise InputError(
                f"matrix: machine {machine}: {name} is given twice, as {merged[name]!r} and as {value!r}",
                hint="vary it on one axis, or exclude this machine with that value",
            )
        merged[name] = value
    load_template(setup.machine).values(merged)
    return setup.model_copy(update={"parameters": merged})
