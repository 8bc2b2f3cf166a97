"""backupd backs up the passive copy of a replicated database. The words we use:

database        the replicated unit that a policy names: one PostgreSQL cluster, or one SQLite file
copy            one instance of a database, on one node, with a role: active or passive; exactly two
node, site      the host that a copy lives on; the place that the host stands in
log             the ordered stream of changes; a log file is a closed, checksummed piece of it
position        a place in the log: (history, offset); a history is a timeline or an epoch
copy queue      log closed on the active but not yet on the passive
replay queue    log on the passive but not yet replayed
inspect         check a log file (checksums, sequence, history) before it may be replayed
writer          speaks for one engine: roles, positions, freeze, thaw, files, log, truncation, recovery
provider        makes the snapshot of a copy's directories: btrfs, reflink, plain copy
snapshot        the passive's files at one moment
archive         where backups rest: a local directory or an S3 bucket
backup          a record in the archive and all that it names: full, incremental, differential, copy
stamp           the record on the active, replicated to the passive, of the last full and incremental
truncate        remove log from copies
prune           remove backups from the archive
delete          remove a file
hold            a named reason why log from some position on must stay
drill           a restore into a scratch place that is opened, checked and thrown away
seed            make the passive anew from the active or from the archive
witness         the third place whose lease says which node may be active
policy          one file in git about one database
run             one walk through the states of a backup, a restore, a truncation or a prune

Not used: dump, job (APScheduler's own aside), master, slave, cluster for the pair.
"""

__version__ = "0.1.0"
