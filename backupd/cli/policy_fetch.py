"""backupctl policy fetch: asks the repository of [policies] now, and says what is in force."""

from __future__ import annotations

from backupd.cli import house, output
from backupd.cli.options import ConfigOption, DryRunOption, JsonOption
from backupd.errors import ConfigInvalid

EXAMPLES = ("backupctl policy fetch", "backupctl policy fetch --dry-run   # fetch and check, and change nothing")


def fetch(dry_run: DryRunOption = False, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """Fetch the policies that the table [policies] of backupd.toml names; the service does it by itself.

    A commit comes into force when its signature is good (where one is asked for) and all its policies are valid;
    until then the last good one stays.
    """
    from backupd.policy.follow import follower_of
    from backupd.policy.load import load_service_config

    found = load_service_config(house.config_path(config))
    follower = follower_of(found)
    if follower is None or found.follow is None:
        raise ConfigInvalid(
            "there is no repository to fetch from",
            because=f"{found.path} has no table [policies]; its policies lie in {found.policies_dir}",
            next_step='add [policies] with repository = "https://..." to it',
        )
    outcome = follower.fetch(switch=not dry_run)
    options = found.follow
    if as_json:
        about = {"repository": options.repository, "ref": options.ref, "path": options.path}
        output.print_json({**about, "dry_run": dry_run, "every_seconds": options.every, **outcome.to_json()})
    else:
        facts = [("repository", f"{options.repository}, {options.path} of {options.ref}")]
        facts += [("signed by", options.signed_by)] if options.signed_by else []
        facts += [("newest", outcome.newest or "not known"), ("in force", outcome.commit or "nothing")]
        output.print_facts(facts)
        if outcome.problem is None:
            output.print_line(_said(changed=outcome.changed, newer=outcome.newest != outcome.commit))
    if outcome.problem is None:
        return 0
    output.print_error(outcome.problem, as_json=False)
    return outcome.problem.exit_status


def _said(*, changed: bool, newer: bool) -> str:
    if changed:
        return "other policies are in force now; a running service takes them up by itself"
    return "the newest is good, and would come into force" if newer else "nothing has changed"
