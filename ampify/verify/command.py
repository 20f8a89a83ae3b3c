"""The command `ampify verify`: options in, exit code out."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from ampify.convert import Options
    from ampify.settings import Settings

UNUSABLE, INTERRUPTED = 3, 130
MODES = "off,scale-only,fp16,bf16"

EPILOG = """\b
Examples:
  ampify verify train.py                        convert in memory, run both, compare
  ampify verify train.py -- --epochs 1 --lr .1  with arguments for the script
  ampify verify --modes off,scale-only train.py the exact modes only
  ampify verify --steps 100 train.py            more steps
  ampify verify --cuda-policy train.py          without a GPU: autocast as CUDA has it
  ampify verify --html report.html train.py     the same, with the curves, as a page
  ampify verify train.py --against train_amp.py two scripts that are there both

\b
Verdicts:
  identical       every gradient, parameter, learning rate, loss and clipped
                  norm of every step is the original's, bit by bit
  close           the first gradients are off by no more than rounding explains
  different       with the first step, optimizer and parameter that differ
  failed          the conversion does not run in this mode
  not repeatable  the original differs from itself when it is run again

\b
Exit codes:
  0    off and scale-only are identical, fp16 and bf16 close
  1    they are not, or the original does not run
  2    the command line or the configuration is wrong
  3    the script is refused or cannot be read, or torch is missing
  123  ampify itself failed
  130  interrupted
"""


def _modes(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    known = MODES.split(",")
    given = [mode.strip() for mode in value.split(",")]
    if unknown := [mode for mode in given if mode not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}")
    return tuple(mode for mode in known if mode in given)


class _Command(click.Command):
    """A command that says where the arguments of scripts go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = f"{error.format_message()} Arguments of the script go behind --."
            raise click.UsageError(message, ctx) from None


@click.command(cls=_Command, epilog=EPILOG, context_settings={"max_content_width": 100})
@click.argument("script", type=click.Path())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENTS...]")
@click.option("--against", metavar="FILE", help="Compare with this script, instead of converting.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Steps of an optimizer, then stop.")
@click.option(
    "--modes", callback=_modes, default=MODES, show_default=True, metavar="LIST", help="Modes to run the conversion in."
)
@click.option("--cuda-policy", is_flag=True, help="On the CPU, let autocast treat each operator as CUDA's does.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random, numpy and torch.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds that one run may take.",
)
@click.option("--format", "report", type=click.Choice(["text", "json"]), default="text", help="How to report.")
@click.option("--html", metavar="FILE", help="Write the report to this file too, as a page that needs nothing else.")
@click.option("--config", metavar="FILE", help="Take [tool.ampify] of this file, not of the nearest pyproject.toml.")
@click.option("--isolated", is_flag=True, help="Take no configuration file.")
def verify(
    script: str,
    arguments: tuple[str, ...],
    against: str | None,
    steps: int,
    modes: tuple[str, ...],
    cuda_policy: bool,
    seed: int,
    timeout: float,
    report: str,
    html: str | None,
    config: str | None,
    isolated: bool,
) -> int:
    """Run SCRIPT and its conversion, and say whether they train the same.

    The script is converted in memory, with the local files that it imports; nothing is written beside them. Original and
    conversion run in processes of their own, in the current directory and with the same seeds, up to the wanted number of
    optimizer steps; what every optimizer sees is observed from outside. They run for real: what the script writes, it writes.
    A script that ampify has converted already is compared with its original.
    """
    from ampify import files
    from ampify.report import streams
    from ampify.report.progress import ProgressLine
    from ampify.verify import data, page, pair, runs, text
    from ampify.verify.compare import Row, compare

    if config is not None and isolated:
        raise click.UsageError("--config and --isolated cannot be given together")
    if why := runs.unable():
        streams.write_text(f"ampify: {why}")
        return UNUSABLE
    try:
        two = pair.against(script, against) if against else pair.of(script, _options(script, config, isolated))
    except pair.NoPairError as error:
        for line in error.lines:
            streams.write_text(line)
        return UNUSABLE
    for told in two.told:
        streams.write_text(told)
    request = runs.Request(arguments, steps, seed, timeout, _scale())._replace(cuda_policy=cuda_policy)
    progress = ProgressLine()

    def tell(row: Row) -> None:
        progress.show(f"{row.mode}: {row.verdict.word}")

    try:
        with _ended_by_signals(), files.scratch() as scratch, contextlib.closing(progress):
            comparison = compare(two, modes, runs.Runner(scratch, request, os.environ, progress.show), tell)
    except files.FileError as problem:
        streams.write_text(f"ampify: {problem.message}")
        return UNUSABLE
    lines = "".join(f"{line}\n" for line in text.lines(comparison, steps))
    streams.write_output(data.render(comparison) if report == "json" else lines.encode())
    try:
        if html is not None:
            files.replace(html, page.render(comparison, script, steps))
    except files.FileError as problem:
        streams.write_text(f"{streams.printable(html or '')}: {problem.code} {problem.message}")
        return UNUSABLE
    return 0 if comparison.good else 1


def _scale() -> float:
    """The loss scale that fp16 begins with: the user's, or the runtime's own."""
    given = os.environ.get("AMPIFY_INIT_SCALE") or "65536"
    try:
        return float(given)
    except ValueError:
        raise click.UsageError(f"AMPIFY_INIT_SCALE={given!r}: the initial scale must be a power of two, such as 65536") from None


def _options(script: str, named: str | None, isolated: bool) -> "Options | Settings":
    from ampify import config
    from ampify.report import streams

    try:
        configured = config.for_call(script, named, isolated)
        # What is compared is the conversion as such: the mode is chosen from outside, and so is not to be pinned.
        own = tuple((pattern, each._replace(dtype=None, runtime=None)) for pattern, each in configured.per_file)
        unpinned = configured._replace(dtype=None, runtime=None, per_file=own)
        return config.options(unpinned, config.Given(runtime="import"), timings=False)
    except config.UnknownRuleError as error:
        raise click.UsageError(str(error)) from None
    except config.ConfigError as error:
        raise click.UsageError(streams.printable(str(error))) from None


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Lets the signals that would end the process end its runs first."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # not there, or not in the main thread
            if signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:  # nohup ignores one, say
                before[name] = signal.signal(getattr(signal, name), interrupt)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
