"""The command line: options in, exit code out."""

import contextlib
import gc
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

# The rest is imported where it is needed: `--help` and a usage error should not wait for it.
if TYPE_CHECKING:
    from ampify.config import Config
    from ampify.convert import Options, Status
    from ampify.job import Outcome
    from ampify.report.colour import Choice
    from ampify.report.progress import ProgressLine
    from ampify.settings import Settings

STANDARD_INPUT = "-"
SHOWING = ("sarif", "html")  # the reports that have the edits in them, and not only their places
UNUSABLE, OWN_BUG, INTERRUPTED = 3, 123, 130
GARBAGE = 100_000  # objects between two looks for garbage: syntax trees are many objects, and hardly any of it

EPILOG = """\b
Examples:
  ampify train.py              convert in place
  ampify --diff train.py       show what would change; with --explain, and why
  ampify --check src/          for CI: exit 1 if something would change
  ampify - < train.py          from standard input to standard output
  ampify --dtype bf16 train.py convert, and pin bfloat16 in the source
  ampify train.ipynb           a notebook, cell by cell; outputs stay as they are
  ampify rule AMP210           what a code means, why, and what is written
  ampify verify train.py       run original and conversion, and compare how they train

\b
Comments that leave code alone:
  loss.backward()  # ampify: skip      the training step that the line is of;
                                       on the line of a `for` or `def`, the block
  # ampify: off, # ampify: on          the lines between them
  # ampify: skip-file                  the file

\b
Exit codes:
  0    converted, or nothing to do
  1    --check found something to change
  2    the command line or the configuration is wrong
  3    a file was refused, or could not be read, parsed or written
  123  ampify itself failed; the file is left as it is
  130  interrupted
If several apply, the first of 123, 2, 3, 1 wins. Converted code, diffs
and reports go to standard output, everything else to standard error.

\b
Options may stand in pyproject.toml, under [tool.ampify]. For completion:
  eval "$(_AMPIFY_COMPLETE=bash_source ampify)"    in ~/.bashrc; zsh, fish too
"""


def _tell_versions(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Prints the versions of what is used, which a report of a mistake should have."""
    if not wanted or context.resilient_parsing:
        return
    from ampify import versions

    click.echo(versions.line())
    context.exit()


def _known_codes(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The codes of rules that begin so, for completion."""
    from ampify.config import codes

    return sorted(code for code in codes() if code.startswith(begun.upper()))


code = partial(click.option, multiple=True, metavar="CODE", shell_complete=_known_codes)


@click.command(epilog=EPILOG, context_settings={"max_content_width": 100})
@click.argument("paths", nargs=-1, type=click.Path(allow_dash=True), metavar="PATH...")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if something would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print a unified diff that `git apply` takes.")
@click.option("--explain", is_flag=True, help="With --diff, say above each hunk what it is for.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colour diffs: on a terminal, unless NO_COLOR is set (the default), always or never.",
)
@click.option("--dtype", type=click.Choice(["fp16", "bf16"]), help="Pin the precision in the converted source.")
@click.option(
    "--runtime",
    type=click.Choice(["import", "vendor", "torch"]),
    help="What the converted code builds on: the installed ampify_runtime (the default), a copy of it beside the script, or "
    "plain torch.amp.",
)
@code("--only", help="Of the rules for numeric hazards (AMP2xx), apply these only.")
@code("--skip", help="Leave out this rule for a numeric hazard (AMP2xx).")
@click.option("--unsafe/--no-unsafe", default=None, help="Apply also the rules that change values.")
@click.option(
    "--format",
    "report",
    type=click.Choice(["text", "json", "github", "sarif", "html"]),
    default="text",
    help="How to report: lines for people, or on standard output JSON, annotations of GitHub Actions, SARIF, a page to review.",
)
@click.option("--allow-refused", is_flag=True, help="Print refusals, but do not exit 3 for them.")
@click.option("--config", metavar="FILE", help="Take [tool.ampify] of this file, not of the nearest pyproject.toml.")
@click.option("--isolated", is_flag=True, help="Take no configuration file.")
@click.option("--stdin-filename", metavar="NAME", help="What to call standard input in messages and diffs.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes to work in, for more than 20 files with training steps. By default as many as there are processors.",
)
@click.option("--timings", is_flag=True, help="Say where the time went.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every edit with its reason, and files left as they are.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_versions,
    help="Print the versions of what is used.",
)
def cli(
    paths: tuple[str, ...],
    check: bool,
    diff: bool,
    explain: bool,
    color: "Choice",
    dtype: Literal["fp16", "bf16"] | None,
    runtime: Literal["import", "vendor", "torch"] | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    unsafe: bool | None,
    report: str,
    allow_refused: bool,
    config: str | None,
    isolated: bool,
    stdin_filename: str | None,
    jobs: int | None,
    timings: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Rewrite fp32 PyTorch training scripts to mixed precision, in place.

    PATH is a script or a notebook, a directory (its .py and .ipynb files, less what .gitignore names; symbolic links
    in it are not followed), or - for standard input. A script that ampify cannot convert safely is refused: it stays
    as it is, and the message says why. One refused file never stops the others.
    """
    from ampify import project
    from ampify.report import streams
    from ampify.report.progress import ProgressLine

    _check_usage(paths, check, diff, report, stdin_filename, quiet, verbose)
    if explain and not diff:
        raise click.UsageError("--explain says what the hunks of a diff are for: it needs --diff")
    if config is not None and isolated:
        raise click.UsageError("--config and --isolated cannot be given together")
    configured = _configuration(stdin_filename or os.curdir if paths == (STANDARD_INPUT,) else paths[0], config, isolated)
    if verbose and configured.path:
        streams.write_text(f"configured by {configured.path}")
    options = _options(configured, timings, dtype, runtime, only, skip, unsafe)
    if STANDARD_INPUT in paths and options.of(stdin_filename or "").runtime == "vendor":
        raise click.UsageError("--runtime vendor writes a file beside the script, which - (standard input) is not: give its path")
    write = not (check or diff)
    line = ProgressLine(wanted=report == "text" and not quiet)
    if paths == (STANDARD_INPUT,):
        outcomes = _standard_input(stdin_filename or "<stdin>", options, echo=write)
    else:
        outcomes = project.run(
            paths,
            options,
            write=write,
            keep=diff or report in SHOWING,
            jobs=jobs,
            progress=line.told,
            selection=configured.selection(),
        )
    with _timed(timings) as measured, contextlib.closing(outcomes), contextlib.closing(line):
        told: Callable[[Iterable[Outcome]], Iterator[Outcome]] = (
            partial(
                _print_text,
                line,
                write_diff=partial(_print_diff, explain, color) if diff else None,
                done=write,
                quiet=quiet,
                verbose=verbose,
            )
            if report == "text"
            else partial(_print_report, report, done=write)
        )
        return project.exit_code(told(measured(outcomes)), check=check, allow_refused=allow_refused)


@contextlib.contextmanager
def _timed(wanted: bool) -> "Iterator[Callable[[Iterator[Outcome]], Iterator[Outcome]]]":
    """What outcomes go through to be timed; where the time went is said at the end."""
    if not wanted:
        yield lambda outcomes: outcomes
        return
    from ampify.report import streams
    from ampify.report.timings import Stopwatch

    watch = Stopwatch()
    yield watch.measured
    for said in watch.lines():
        streams.write_text(said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned, for the console script to leave with."""
    from ampify.report import streams

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["rule"]:  # a file of that name is ./rule
            return int(rule.main(given[1:], prog_name="ampify rule", standalone_mode=False))
        if given[:1] == ["verify"]:
            from ampify.verify.command import verify

            return int(verify.main(given[1:], prog_name="ampify verify", standalone_mode=False))
        return int(cli.main(given, prog_name="ampify", standalone_mode=False))
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().rstrip("\n").split("\n"):
            streams.write_text(line)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        streams.write_text("ampify: interrupted; each file is either converted or as it was")
        return INTERRUPTED
    except (streams.StreamError, OSError) as error:
        streams.discard_output()  # what is left in its buffer would fail once more when Python exits
        streams.write_text(f"ampify: {error}")
        return UNUSABLE
    except Exception as error:
        from ampify import job

        streams.write_text(f"ampify: {job.bug_report(error)}")
        return OWN_BUG


def run() -> NoReturn:
    """The console script: runs the command, and leaves with its exit code."""
    from ampify.report import streams

    gc.set_threshold(GARBAGE, 20, 20)
    streams.leave(main())


class _WrongConfiguration(click.ClickException):
    exit_code = 2


def _configuration(first: str, named: str | None, isolated: bool) -> "Config":
    """What the configuration of a call says; a wrong one ends it."""
    from ampify import config
    from ampify.report import streams

    try:
        return config.for_call(first, named, isolated)
    except config.ConfigError as error:
        raise _WrongConfiguration(streams.printable(str(error))) from None


def _options(configured: "Config", timings: bool, *given: Any) -> "Options | Settings":
    """The options of a call, `given` those of ampify.config.Given; a rule that is none ends it."""
    from ampify import config

    try:
        return config.options(configured, config.Given(*given), timings)
    except config.UnknownRuleError as error:
        raise click.UsageError(str(error)) from None


@click.command(context_settings={"max_content_width": 100})
@click.argument("code", required=False)
def rule(code: str | None) -> int:
    """Print the manual page of a CODE, such as AMP210, or a list of all codes."""
    from ampify import manual
    from ampify.report import streams

    try:
        text = manual.page(code.upper()) if code else manual.index()
    except KeyError:
        raise click.UsageError(f"there is no {code}: `ampify rule` lists all codes") from None
    streams.write_output(f"{text}\n".encode())
    return 0


def _check_usage(
    paths: tuple[str, ...],
    check: bool,
    diff: bool,
    report: str,
    stdin_filename: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    if not paths:
        raise click.UsageError("give the scripts or directories to convert, or - for standard input")
    if STANDARD_INPUT in paths and len(paths) > 1:
        raise click.UsageError("- (standard input) cannot be given together with other paths")
    if stdin_filename is not None and paths != (STANDARD_INPUT,):
        raise click.UsageError("--stdin-filename names standard input: it needs the path -")
    if report != "text" and diff:
        raise click.UsageError(f"--format {report} cannot be given together with --diff: both go to standard output")
    if report != "text" and STANDARD_INPUT in paths and not check:
        raise click.UsageError(f"--format {report} with - needs --check: the code and the report go to standard output")
    if quiet and verbose:
        raise click.UsageError("-q and -v cannot be given together")


def _standard_input(name: str, options: "Options | Settings", *, echo: bool) -> "Generator[Outcome, None, None]":
    """The one outcome for standard input; with `echo` the code goes to standard output, unless it could not be read."""
    from ampify import job
    from ampify.report import streams

    outcome = job.convert_bytes(name, streams.read_input(), options.of(name))
    if echo and outcome.result.status != "error":
        streams.write_output(outcome.result.output)
    yield outcome


def _print_text(
    line: "ProgressLine",
    outcomes: "Iterable[Outcome]",
    *,
    write_diff: "Callable[[Outcome], None] | None",
    done: bool,
    quiet: bool,
    verbose: bool,
) -> "Iterator[Outcome]":
    """Print each outcome as it comes, out of the way of the line of counts, and the summary at the end; hands the outcomes on."""
    from ampify.report import streams, text

    statuses: Counter[Status] = Counter()
    for outcome in outcomes:
        line.erase()
        if write_diff is not None:
            write_diff(outcome)
        for said in text.lines(outcome, done=done, verbose=verbose, quiet=quiet):
            streams.write_text(said)
        statuses[outcome.result.status] += 1
        yield outcome
    line.erase()
    if not quiet:
        streams.write_text(text.summary(statuses, done=done))


def _print_report(report: str, outcomes: "Iterable[Outcome]", *, done: bool) -> "Iterator[Outcome]":
    """Print a report of a format; hands the outcomes on."""
    from ampify.report import output

    return output.write(report, outcomes, done=done)


def _print_diff(explain: bool, color: "Choice", outcome: "Outcome") -> None:
    """Print the diff of a file that is, or would be, converted."""
    from ampify.report import colour, diff, streams

    streams.write_diff(diff.render(outcome, explain=explain), coloured=colour.wanted(color))


if __name__ == "__main__":
    run()
