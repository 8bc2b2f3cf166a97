"""The shop of PostgreSQL's story: its tables, and pgbench as a program that sells and knows nothing of backupd."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from backupd.demo.commands import expect
from backupd.demo.postgres_server import PgServer, until

DATABASE = "shop"
TABLES = ("customer", "stock", "orders", "orders_of_last_year")
SALES_PER_SECOND = 200
CLOSING_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, city text NOT NULL);
CREATE TABLE stock (sku int PRIMARY KEY, pieces int NOT NULL) WITH (fillfactor = 50);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES customer,
  sku int NOT NULL REFERENCES stock, cents int NOT NULL, note text NOT NULL);
CREATE TABLE orders_of_last_year (LIKE orders INCLUDING ALL);
INSERT INTO customer SELECT n, 'customer ' || n, (ARRAY['Porto', 'Gdansk', 'Bergen', 'Varna'])[1 + n % 4]
  FROM generate_series(1, 500) n;
INSERT INTO stock SELECT n, 1000000 FROM generate_series(1, 300) n;
INSERT INTO orders_of_last_year (customer, sku, cents, note)
  SELECT 1 + n % 500, 1 + n % 300, 100 + n * 7919 % 99900, md5(n::text) || md5(n::text || 'x') || repeat('-', 150)
  FROM generate_series(1, 60000) n;
INSERT INTO orders (customer, sku, cents, note) SELECT customer, sku, cents, note FROM orders_of_last_year;
"""
_SALE = """
\\set customer random(1, 500)
\\set sku random(1, 300)
\\set cents random(100, 99999)
BEGIN;
INSERT INTO orders (customer, sku, cents, note)
  VALUES (:customer, :sku, :cents, 'please ring ' || repeat(md5(random()::text), 12));
UPDATE stock SET pieces = pieces - 1 WHERE sku = :sku;
COMMIT;
"""
_ALL_ROWS = "SELECT count(*), sum(cents), md5(string_agg(md5(o::text), '' ORDER BY id)) FROM orders o"


@dataclass(frozen=True, slots=True)
class Orders:
    """What is in the table of orders: how many, worth what, and a digest of every row."""

    count: int
    cents: int
    digest: str

    @property
    def words(self) -> str:
        """For a person."""
        return f"{self.count:,} orders worth {self.cents / 100:,.2f}"


@dataclass(slots=True)
class Shop:
    """The application on one server; it is open or closed."""

    active: PgServer
    directory: Path
    sales: int = 0
    longest_seconds: float = 0.0
    _process: subprocess.Popen[str] | None = None
    _logs_read: set[Path] = field(default_factory=set)

    def build(self) -> None:
        """Make the database, its tables, and some years of old orders."""
        self.active.person.own(self.directory)
        self.active.person.write(self.directory / "sale.sql", _SALE)
        self.active.psql(f"CREATE DATABASE {DATABASE}")
        self.active.psql(_SCHEMA, DATABASE)
        self.active.psql("VACUUM (FREEZE, ANALYZE)", DATABASE)

    def open(self) -> None:
        """Let it sell; returns when it does."""
        address = ("-n", "-h", "127.0.0.1", "-p", self.active.port, "-U", "postgres")
        pace = ("-c", 2, "-j", 1, "-R", SALES_PER_SECOND, "-T", 3600)
        words = (*address, *pace, "-f", self.directory / "sale.sql", "--log", f"--log-prefix={self.directory}/sales")
        program = str(self.active.bin_directory / "pgbench")
        self._process = self.active.person.start([program, *map(str, words), DATABASE])
        self.let_it_sell(1)

    def close(self) -> None:
        """End it as the end of its time would: the sale that is on its way is finished, and its log written."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGALRM)
        self._process.wait(CLOSING_SECONDS)
        self._process = None
        self._read_logs()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def let_it_sell(self, count: int) -> None:
        """Wait until so many more sales are committed. Raises NotHealthy when the shop does not sell."""
        goal = self._newest() + count

        def sold() -> bool:
            expect(
                self._process is not None and self._process.poll() is None,
                "the shop has ended by itself",
                "pgbench lost its connection, or its statement failed; see the active's server.log",
            )
            return self._newest() >= goal

        until(sold, "the shop does not sell")

    def raise_prices(self) -> None:
        """What a shop does now and then: one statement that touches every order."""
        self.active.psql("UPDATE orders SET cents = cents * 102 / 100", DATABASE)

    def lose_everything(self) -> None:
        """The accident."""
        self.active.psql("DELETE FROM orders", DATABASE)

    def orders(self, server: PgServer | None = None) -> Orders:
        """The orders on the active, or on another server."""
        count, cents, digest = (server or self.active).psql(_ALL_ROWS, DATABASE).split("|")
        return Orders(int(count), int(cents or 0), digest)

    def digests(self, server: PgServer) -> tuple[str, ...]:
        """A digest of every row of every table, as this server answers."""
        asked = "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY t::text)), '') FROM {} t"
        return tuple(server.psql(asked.format(table), DATABASE) for table in TABLES)

    def _newest(self) -> int:
        return int(self.active.psql("SELECT last_value FROM orders_id_seq", DATABASE))

    def _read_logs(self) -> None:
        for file in self.directory.glob("sales.*"):
            if file not in self._logs_read:
                self._logs_read.add(file)
                took = [served_seconds(line) for line in file.read_text(encoding="ascii").splitlines()]
                self.sales += len(took)
                self.longest_seconds = max([self.longest_seconds, *took])


def served_seconds(line: str) -> float:
    """How long one sale took by pgbench's log, without the time that it waited for its turn."""
    _client, _number, took, _script, _at, _at_fraction, waited, *_ = line.split()
    return (int(took) - int(waited)) / 1e6
