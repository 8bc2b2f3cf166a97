"""The one question that is put to a server: everything about it in a single row."""

from __future__ import annotations

RESTORE_SETTINGS = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)


def _number(lsn: str) -> str:
    return f"({lsn} - '0/0'::pg_lsn)::bigint"


def _list(query: str) -> str:
    return f"(SELECT coalesce(json_agg(row_to_json(found)), '[]') FROM ({query}) AS found)"


SETTINGS = (
    *("recovery_min_apply_delay", "full_page_writes", "data_checksums", "wal_log_hints", "wal_segment_size"),
    *("block_size", "data_directory", "port", "max_slot_wal_keep_size", "synchronous_commit", "archive_mode"),
    *("synchronous_standby_names", "primary_conninfo", "log_directory"),
    *RESTORE_SETTINGS,
)
_STREAMS = f"""
SELECT application_name, coalesce(host(client_addr), 'local socket') AS client, state, sync_state,
       {_number("sent_lsn")} AS sent_lsn, {_number("write_lsn")} AS write_lsn, {_number("flush_lsn")} AS flush_lsn,
       {_number("replay_lsn")} AS replay_lsn, coalesce(slot_name, '') AS slot
FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid ORDER BY pid"""
_RECEIVER = """
SELECT status, received_tli AS timeline, coalesce(slot_name, '') AS slot,
       coalesce(sender_host || ':' || sender_port, '') AS sender FROM pg_stat_wal_receiver WHERE status IS NOT NULL"""
_SLOTS = f"""
SELECT slot_name AS name, slot_type AS kind, active, {_number("restart_lsn")} AS restart_lsn,
       coalesce(wal_status, '') AS wal_status, safe_wal_size AS safe_wal_bytes FROM pg_replication_slots ORDER BY 1"""
_TABLESPACES = """
SELECT oid::bigint AS oid, spcname AS name, pg_tablespace_location(oid) AS location
FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"""
# Segments are told apart by their number, whatever their timeline; what lies before the slot is not kept by it.
_OLDEST = """
SELECT min(modification) FROM pg_ls_waldir(), (
    SELECT (restart_lsn - '0/0'::pg_lsn) AS start, setting::numeric AS segment
    FROM pg_replication_slots, pg_settings WHERE slot_name = %s AND pg_settings.name = 'wal_segment_size') AS kept
WHERE pg_ls_waldir.name ~ '^[0-9A-F]{24}$' AND right(pg_ls_waldir.name, 16) =
    upper(lpad(to_hex(div(start, 4294967296)::bigint), 8, '0')
          || lpad(to_hex(div(mod(start, 4294967296), segment)::bigint), 8, '0'))"""
ASK = f"""
SELECT now.*,
    current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version,
    clock_timestamp() AS clock_at, pg_postmaster_start_time() AS started_at,
    pg_last_xact_replay_timestamp() AS last_xact_replay_at,
    {_number("pg_last_wal_receive_lsn()")} AS receive_lsn,
    CASE WHEN NOT in_recovery THEN {_number("pg_current_wal_insert_lsn()")} END AS insert_lsn,
    CASE WHEN NOT in_recovery THEN {_number("pg_current_wal_flush_lsn()")} END AS flush_lsn,
    CASE WHEN in_recovery THEN {_number("pg_last_wal_replay_lsn()")} END AS replay_lsn,
    CASE WHEN in_recovery THEN pg_get_wal_replay_pause_state() ELSE '' END AS replay_pause_state,
    CASE WHEN NOT in_recovery THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS writing_timeline,
    (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
    {_list(f"SELECT timeline_id AS timeline, {_number('redo_lsn')} AS redo_lsn FROM pg_control_checkpoint()")}
        AS control,
    (SELECT min_recovery_end_timeline FROM pg_control_recovery()) AS recovered_timeline,
    EXISTS (SELECT FROM pg_db_role_setting WHERE 'synchronous_commit=remote_apply' = ANY (setconfig))
        AS remote_apply_somewhere,
    (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name = ANY (%s)) AS settings,
    {_list(_STREAMS)} AS streams, {_list(_RECEIVER)} AS receivers, {_list(_SLOTS)} AS slots,
    {_list(_TABLESPACES)} AS tablespaces,
    ({_OLDEST}) AS slot_oldest_at
FROM (SELECT pg_is_in_recovery() AS in_recovery) AS now"""
HISTORY = """
SELECT CASE WHEN has_function_privilege('pg_read_file(text,bigint,bigint,boolean)', 'EXECUTE')
       THEN pg_read_file('pg_wal/' || %s || '.history', 0, 1048576, true) END"""
