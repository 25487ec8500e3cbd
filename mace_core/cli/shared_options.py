"""The options that commands on a model share, in groups, and the decorator that gives a command groups of them.

    @shared_options
    def explain(model: Model, *, session: SessionOptions, inputs: InputOptions, output: OutputOptions) -> None:

A parameter of a group's type stands for all options of that group; the command gets them as one object.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from mace_core.cli.options import (
    AllRows,
    Archive,
    Bgr,
    Cards,
    Debug,
    Devices,
    DynamicRange,
    ExpectedBy,
    ExpectedFrom,
    Inputs,
    Json,
    JsonFile,
    Layout,
    Licenses,
    Mean,
    Pins,
    PolicyName,
    ProviderOptions,
    Quiet,
    RandomInputs,
    RandomSamples,
    Reports,
    Resize,
    SampleFiles,
    SampleTolerances,
    Scale,
    Seed,
    Shapes,
    Signature,
    SigningKeys,
    StepsAfter,
    StepsBefore,
    Strict,
    Threads,
    TrustedKeys,
    Verbose,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from mace_core.package.documents import Document
    from mace_core.presentation import Table
    from mace_core.processing import Step
    from mace_core.scheduler.planning.assumptions import AssumedShapes
    from mace_core.session import Session


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What is read of a model file, and how.  The command gets it for nothing: all that it reads is read so."""

    signature: Signature = ""
    dynamic_range: DynamicRange = ""

    def check(self, model: str | os.PathLike[str]) -> None:
        """
        Raises:
            UsageError: if a signature is chosen, and the model is of a format that has none.
        """
        if self.signature:
            from mace_core.frontend.load import check_signature

            check_signature(model, self.signature)

    @contextlib.contextmanager
    def reading(self, model: object) -> Iterator[None]:
        """Read models so, in the command and in processes that it starts.

        Raises:
            UsageError: for a choice that does not exist, or not for this model.
        """
        from mace_core.frontend.importing import importing

        if isinstance(model, str | os.PathLike):
            self.check(model)
        with importing(self.signature, self.dynamic_range):
            yield


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Where a model runs, and how."""

    device: Devices = field(default_factory=list)
    policy: PolicyName = ""
    strict: Strict = False
    pin: Pins = field(default_factory=list)
    threads: Threads = 0
    option: ProviderOptions = field(default_factory=list)
    trusted_key: TrustedKeys = field(default_factory=list)

    @contextlib.contextmanager
    def trusting(self) -> Iterator[None]:
        """Let every session of the command, and of processes that it starts, open only what these keys have signed.

        Raises:
            UsageError: for a key that cannot be read.
        """
        if not self.trusted_key:
            yield
            return
        from mace_core.package.signatures import TRUSTED_KEYS, trust_of

        trust_of(self.trusted_key)
        before = os.environ.get(TRUSTED_KEYS)
        os.environ[TRUSTED_KEYS] = os.pathsep.join(os.path.abspath(key) for key in self.trusted_key)  # noqa: PTH100
        try:
            yield
        finally:
            if before is None:
                del os.environ[TRUSTED_KEYS]
            else:
                os.environ[TRUSTED_KEYS] = before

    @property
    def devices(self) -> list[str] | None:
        """The devices named, or None for all real ones."""
        return list(self.device) or None

    @property
    def provider_options(self) -> dict[str, dict[str, object]] | None:
        """``options`` of Session."""
        from mace_core.cli.parsing import parse_provider_options

        return parse_provider_options(self.option, self.threads)

    @property
    def pins(self) -> dict[str, str]:
        """``pins`` of Session."""
        from mace_core.cli.parsing import parse_pins

        return parse_pins(self.pin)

    def open(self, model: str, *, check_numerics: bool | str = False) -> Session:
        """A session with these options, which `mace monitor` sees.

        Raises:
            MaceError: as Session does.
        """
        from mace_core.cli import output
        from mace_core.monitoring import publish_quietly
        from mace_core.session import Session

        publish_quietly()
        with output.progress(f"Loading {model}"):
            return Session(
                model,
                devices=self.devices,
                options=self.provider_options,
                strict=self.strict,
                pins=self.pins,
                check_numerics=check_numerics,
                policy=self.policy or None,
            )


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What a model is fed, or the shapes of it."""

    input: Inputs = field(default_factory=list)
    npz: Archive = None
    random: RandomInputs = False
    seed: Seed = 0
    shape: Shapes = field(default_factory=list)
    layout: Layout = ""
    mean: Mean = ""
    scale: Scale = ""
    resize: Resize = ""
    bgr: Bgr = False

    def check(self) -> None:
        """Look at what can be judged without the model.

        Raises:
            UsageError: for an option that means nothing.
        """
        from mace_core.cli.inputs import picture_options

        picture_options(self)

    def feeds(self, session: Session, *, fill: bool = False, seed: int | None = None) -> dict[str, npt.NDArray[Any]]:
        """An array for every input of the model, from files or random.

        Args:
            fill: take random numbers for what no file is given for, even without ``--random``.
            seed: of the random numbers, instead of ``--seed``.

        Raises:
            UsageError: for a name that the model does not have, a file that cannot be read, an input without a value.
        """
        from mace_core.cli.inputs import gather_inputs

        return gather_inputs(session, self, fill=fill or self.random, seed=self.seed if seed is None else seed)

    def given(self, session: Session) -> dict[str, npt.NDArray[Any]]:
        """The arrays of the files, for those inputs that have one.

        Raises:
            UsageError: as :meth:`feeds`.
        """
        from mace_core.cli.inputs import load_inputs, parse_shapes

        return load_inputs(session.inputs, self, parse_shapes(self.shape, session.inputs))

    def shapes(self, session: Session) -> AssumedShapes:
        """The shape of every input: of the files, of ``--shape``, and assumed where neither decides.

        Raises:
            UsageError: as :meth:`feeds`, and if none of the sizes that are usually assumed fits the model.
        """
        from mace_core.cli.inputs import gather_shapes

        return gather_shapes(session, self)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How results are presented."""

    as_json: Json = False
    json_file: JsonFile = None
    all_rows: AllRows = False
    verbose: Verbose = False
    quiet: Quiet = False
    debug: Debug = False

    def begin(self) -> None:
        """What holds from the start of the command: how much is told, and whether the file can be written.

        Raises:
            UsageError: if it cannot.
        """
        from mace_core.cli.verbosity import raise_verbosity
        from mace_core.cli.written_files import check_target

        raise_verbosity(verbose=self.verbose, quiet=self.quiet, debug=self.debug)
        check_target("--json-file", self.json_file)

    def shown(self, table: Table) -> Table:
        """The rows of a table that are to be shown: the first ten, or all where that is asked for."""
        from mace_core.cli.output import ALL_HINT

        return table if self.all_rows else table.top(hint=ALL_HINT)

    def deliver(self, command: str, findings: Mapping[str, Any], text: Callable[[], None]) -> None:
        """Tell what a command found: as JSON where that is asked for, else through ``text``, which prints it."""
        from mace_core.cli.json_output import print_json, write_json

        if self.json_file is not None:
            write_json(self.json_file, command, findings)
        if self.as_json:
            print_json(command, findings)
        else:
            text()


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """The samples that go into a package."""

    sample: SampleFiles = field(default_factory=list)
    random_samples: RandomSamples = 0
    seed: Seed = 0
    expected_from: ExpectedFrom = ""
    expected_by: ExpectedBy = ""
    sample_tolerance: SampleTolerances = field(default_factory=list)
    layout: Layout = ""
    mean: Mean = ""
    scale: Scale = ""
    resize: Resize = ""
    bgr: Bgr = False

    @property
    def is_asked_for(self) -> bool:
        """Whether any option says something of samples."""
        return bool(
            self.sample or self.random_samples or self.expected_from or self.expected_by or self.sample_tolerance
        )

    @property
    def pictures(self) -> InputOptions:
        """How pictures become inputs."""
        return InputOptions(layout=self.layout, mean=self.mean, scale=self.scale, resize=self.resize, bgr=self.bgr)


@dataclass(frozen=True, slots=True)
class ContentOptions:
    """What goes into a package beside the model: steps before and after it, texts about it, signatures."""

    before: StepsBefore = field(default_factory=list)
    after: StepsAfter = field(default_factory=list)
    report: Reports = field(default_factory=list)
    license: Licenses = field(default_factory=list)
    card: Cards = field(default_factory=list)
    sign: SigningKeys = field(default_factory=list)

    @property
    def given(self) -> str:
        """An option of these that is given, "" where none is."""
        options = ("before", "after", "report", "license", "card", "sign")
        return next((f"--{name}" for name in options if getattr(self, name)), "")

    def steps(self) -> tuple[list[Step], list[Step]]:
        """The steps before the model and after it.

        Raises:
            UsageError: for a text that means no step.
        """
        if not self.before and not self.after:
            return [], []
        from mace_core.processing import parse_step

        before = [parse_step(text, is_before=True) for text in self.before]
        return before, [parse_step(text, is_before=False) for text in self.after]

    def documents(self) -> list[Document]:
        """The texts about the model.

        Raises:
            UsageError: for a file that is no text.
        """
        from mace_core.package.documents import read_document

        given = [("report", self.report), ("license", self.license), ("card", self.card)]
        return [read_document(role, path) for role, paths in given for path in paths]


_GROUPS = (ContentOptions, ReadingOptions, SessionOptions, InputOptions, OutputOptions, SampleOptions)


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a group's type are replaced by the options of that group."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Any, list[str]]] = {}
    for parameter in signature.parameters.values():
        kind = hints[parameter.name]
        if kind not in _GROUPS:
            parameters.append(parameter.replace(annotation=kind))
            continue
        added = _parameters(kind)
        groups[parameter.name] = (kind, [each.name for each in added])
        parameters += added

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, (kind, members) in groups.items():
            group = kind(**{member: given.pop(member) for member in members})
            if isinstance(group, OutputOptions):
                group.begin()
            if isinstance(group, InputOptions):
                group.check()
            given[name] = group
        with contextlib.ExitStack() as stack:
            for group in given.values():
                if isinstance(group, SessionOptions):
                    stack.enter_context(group.trusting())
                elif isinstance(group, ReadingOptions):
                    stack.enter_context(group.reading(given.get("model")))
            command(**given)

    required = [p for p in parameters if p.default is inspect.Parameter.empty]
    others = [p for p in parameters if p.default is not inspect.Parameter.empty]
    vars(run)["__signature__"] = signature.replace(
        parameters=[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*required, *others)]
    )
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _parameters(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default if each.default_factory is MISSING else each.default_factory(),
            annotation=hints[each.name],
        )
        for each in fields(group)
    ]
