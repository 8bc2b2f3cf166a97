"""backupctl: the app and its exit statuses; what a verb does is in the verb's own file."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
import typer.core

from backupd import __version__
from backupd.cli import (
    alarm,
    backup,
    check,
    copies,
    copy_archive,
    demo,
    drill,
    explain,
    hold,
    holds,
    init,
    list_backups,
    metrics,
    output,
    policy,
    policy_diff,
    policy_fetch,
    prune,
    recover,
    restore,
    show,
    signals,
    status,
    timeline,
    truncate,
    verify,
)
from backupd.cli.house import CONFIG_VARIABLE
from backupd.cli.options import ConfigOption
from backupd.errors import BackupdError, Interrupted, UsageProblem

# typer brings its own click or uses the installed one, by version; the base of BadParameter is right for both.
_UsageError: Any = typer.BadParameter.__mro__[1]

_BRACES = str.maketrans("", "", "{}")  # some releases of typer put them around a required argument

EXIT_STATUSES = """\
Exit status: 0 done, 1 a bug, 2 usage, 3 config or policy invalid,
4 refused by a safety rule, 5 not found, 6 damage found, 7 copy or engine not
healthy, 8 archive not reachable, 9 busy, 130 interrupted."""

# A command makes little garbage but many objects when it loads what it needs: at 700, as it is, a twelfth of its time
# would go into looking for garbage.
_GARBAGE_THRESHOLD = 20_000

VERBS = (
    *("demo", "init", "policy", "check", "status", "backup", "list", "show", "timeline", "verify", "restore", "drill"),
    *("explain", "truncate", "prune", "hold", "release", "holds", "copy", "copy-archive", "recover", "metrics"),
    *("alarms", "alarm"),
)


class _InOrder(typer.core.TyperGroup):
    """Lists the verbs as a person meets them; typer would put the groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs' names in the order of the help."""
        del ctx
        return list(VERBS)


def _empty_app() -> typer.Typer:
    return typer.Typer(
        name="backupctl",
        cls=_InOrder,
        add_completion=False,
        rich_markup_mode=None,  # plain help answers in half the time, and reads the same in a pipe
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        help="Backs up the passive copy of a replicated database, "
        "and truncates its log only when the archive is proven.",
        epilog="\b\nExamples:\n  backupctl --config /etc/backupd/backupd.toml status\n"
        "  backupctl backup orders --type full\n\n\b\n" + EXIT_STATUSES,
    )


app = _empty_app()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"backupctl {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def before(
    ctx: typer.Context,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take what may stand before the verb, and show the help when there is no verb."""
    if config:
        os.environ[CONFIG_VARIABLE] = config
    del version
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _add(to: typer.Typer, summary: str, verb: Callable[..., int | None], examples: Sequence[str]) -> None:
    """Register one verb: ``summary`` is its name and the words that the list of verbs shows."""
    name, _, short_help = summary.partition(": ")
    epilog = "\b\nExample:\n" if len(examples) == 1 else "\b\nExamples:\n"
    epilog += "\n".join(f"  {example}" for example in examples)
    to.command(name, short_help=short_help, epilog=epilog)(verb)


def _group(name: str, help_text: str) -> typer.Typer:
    group = typer.Typer(name=name, help=f"{help_text[:1].upper()}{help_text[1:]}.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(show_help_without_a_verb)
    app.add_typer(group, name=name, short_help=help_text)
    return group


def show_help_without_a_verb(ctx: typer.Context) -> None:
    """A group of verbs alone shows its help."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _register() -> None:
    _add(app, "demo: the whole story on a real pair, in a few minutes", demo.demo, demo.EXAMPLES)
    _add(app, "init: write a service config and a first policy", init.init, init.EXAMPLES)
    policies = _group("policy", "check the policy files, their schema, the calendar")
    _add(policies, "check: validate policy files", policy.check, policy.CHECK_EXAMPLES)
    _add(policies, "schema: the JSON Schema of a policy file", policy.schema, policy.SCHEMA_EXAMPLES)
    _add(policies, "plan: the calendar of runs", policy.plan, policy.PLAN_EXAMPLES)
    _add(policies, "diff: what a change of the policies would do", policy_diff.diff, policy_diff.EXAMPLES)
    _add(policies, "fetch: fetch policies from their repository", policy_fetch.fetch, policy_fetch.EXAMPLES)
    _add(app, "check: try all that a backup needs, name what to fix", check.check, check.EXAMPLES)
    _add(app, "status: copies, queues, last backups, window, alarms", status.status, status.EXAMPLES)
    _add(app, "backup: one run, now", backup.backup, backup.EXAMPLES)
    _add(app, "list: the backups of the archive", list_backups.list_backups, list_backups.EXAMPLES)
    _add(app, "show: one backup, whole", show.show, show.EXAMPLES)
    _add(app, "timeline: what could be restored when, and commits", timeline.timeline, timeline.EXAMPLES)
    _add(app, "verify: check the archive, name every damage", verify.verify, verify.EXAMPLES)
    _add(app, "restore: to the active copy or into a directory", restore.restore, restore.EXAMPLES)
    _add(app, "drill: a restore for practice, measured and thrown away", drill.drill, drill.EXAMPLES)
    reasons = _group("explain", "why log is kept, why a backup is kept, what is due")
    _add(reasons, "truncation: why log is kept or may go", explain.truncation, explain.TRUNCATION_EXAMPLES)
    _add(reasons, "retention: why each backup stays or goes", explain.retention, explain.RETENTION_EXAMPLES)
    _add(reasons, "schedule: what is due, and what comes next", explain.schedule, explain.SCHEDULE_EXAMPLES)
    _add(app, "truncate: remove archived log from the copies", truncate.truncate, truncate.EXAMPLES)
    _add(app, "prune: remove backups that no rule keeps", prune.prune, prune.EXAMPLES)
    _add(app, "hold: keep one backup from being pruned", hold.hold, hold.HOLD_EXAMPLES)
    _add(app, "release: let a held backup be pruned again", hold.release, hold.RELEASE_EXAMPLES)
    _add(app, "holds: which log and which backups must stay, and why", holds.holds, holds.EXAMPLES)
    pair = _group("copy", "suspend, resume or seed the passive copy")
    _add(pair, "suspend: stop copying and replay", copies.suspend, copies.SUSPEND_EXAMPLES)
    _add(pair, "resume: let copying and replay go on", copies.resume, copies.RESUME_EXAMPLES)
    _add(pair, "seed: make the passive anew, from the archive or the active", copies.seed, copies.SEED_EXAMPLES)
    _add(pair, "switchover: exchange the roles (a later version)", copies.switchover, copies.SWITCHOVER_EXAMPLES)
    _add(app, "copy-archive: copy to the second archive", copy_archive.copy_archive, copy_archive.EXAMPLES)
    _add(app, "alarms: what is wrong, since when, who was told", alarm.alarms, alarm.EXAMPLES)
    told = _group("alarm", "try whether alarms would be heard")
    _add(told, "test: send a test message to every target", alarm.alarm_test, alarm.TEST_EXAMPLES)
    _add(app, "recover: finish or undo what a dead process left", recover.recover, recover.EXAMPLES)
    _add(app, "metrics: the numbers for Prometheus", metrics.metrics, metrics.EXAMPLES)


_register()


def _app_for(arguments: Sequence[str]) -> typer.Typer:
    """The app; or where its verb can be told one with that verb alone, for typer builds the options of all it has."""
    verb = arguments[0] if arguments else ""
    if verb == "--config" and len(arguments) > 2:
        verb = arguments[2]
    if verb not in VERBS:
        return app
    narrow = _empty_app()
    narrow.registered_callback = app.registered_callback
    narrow.registered_commands = [one for one in app.registered_commands if one.name == verb]
    narrow.registered_groups = [one for one in app.registered_groups if one.name == verb]
    return narrow


def run(arguments: Sequence[str]) -> int:
    """Run one command line; answers with its exit status. A bug is raised as it is."""
    as_json = "--json" in arguments
    try:
        answer = typer.main.get_command(_app_for(arguments)).main(
            list(arguments), prog_name="backupctl", standalone_mode=False
        )
        sys.stdout.flush()
    except BackupdError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_status
    except _UsageError as error:
        output.print_error(_usage_problem(error), as_json=as_json)
        return UsageProblem.exit_status
    except (KeyboardInterrupt, typer.Abort):
        answer = Interrupted.exit_status  # some releases of typer answer so by themselves
    except BrokenPipeError:
        # The reader of a pipe has seen enough (head, a closed pager); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if answer == Interrupted.exit_status:
        output.print_error(signals.interrupted(), as_json=as_json)
    return answer if isinstance(answer, int) else 0


def _usage_problem(error: Any) -> UsageProblem:
    ctx = error.ctx
    message = " ".join(str(error.format_message()).replace("Value error, ", "").split()).rstrip(".")
    usage = "backupctl VERB" if ctx is None else ctx.get_usage().replace("Usage: ", "").translate(_BRACES)
    path = "backupctl" if ctx is None else ctx.command_path
    return UsageProblem(
        message[:1].lower() + message[1:],
        because=f"the usage is: {' '.join(usage.split())}",
        next_step=f"{path} --help",
    )


def main() -> None:
    """The command ``backupctl``."""
    signals.listen()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    # What the rooms log is the service's to show; a command says what matters in its answer or its three lines.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.lastResort = None  # loggers of libraries that do not propagate would be printed by it
    logging.raiseExceptions = False
    # Looking for plugins reads the metadata of every installed package: a tenth of the time of status.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would begin threads, for algebra that nobody does here
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
