"""An application that knows nothing of backupd: a shop that takes orders into an SQLite file, with plain sqlite3.

Run as ``python shop.py DATABASE STATS``; ends on SIGTERM.  It imports nothing of
backupd, and it is started by its path, so it could not if it wanted to.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from types import FrameType

SCHEMA = """
CREATE TABLE IF NOT EXISTS customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, pieces INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
  id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, sku TEXT NOT NULL, cents INTEGER NOT NULL, note TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS orders_by_customer ON orders (customer);
"""
WORDS = ("please", "ring", "twice", "leave", "with", "the", "neighbour", "gift", "wrapping", "blue", "before", "noon")
CITIES = ("Porto", "Gdansk", "Bergen", "Trieste", "Cork", "Varna")
OLD_ORDERS = 30_000


def order(dice: random.Random) -> tuple[int, str, int, str]:
    """One order: customer, article, price, and what the customer wrote."""
    note = " ".join(dice.choices(WORDS, k=dice.randint(20, 160)))
    return dice.randint(1, 500), f"sku-{dice.randint(1, 300):04d}", dice.randint(100, 99_999), note


def open_shop(path: str, dice: random.Random) -> sqlite3.Connection:
    """The shop's own set-up: WAL mode, tables, and some years of old orders."""
    shop = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    shop.execute("PRAGMA journal_mode=WAL")
    shop.executescript(SCHEMA)
    if shop.execute("SELECT count(*) FROM customer").fetchone()[0] == 0:
        shop.execute("BEGIN")
        shop.executemany(
            "INSERT INTO customer (name, city) VALUES (?, ?)", [(f"customer {n}", CITIES[n % 6]) for n in range(500)]
        )
        shop.executemany("INSERT INTO stock VALUES (?, 100000)", [(f"sku-{n:04d}",) for n in range(1, 301)])
        shop.executemany(
            "INSERT INTO orders (customer, sku, cents, note) VALUES (?, ?, ?, ?)",
            (order(dice) for _ in range(OLD_ORDERS)),
        )
        shop.execute("COMMIT")
    return shop


def sell(shop: sqlite3.Connection, dice: random.Random) -> None:
    """One sale: the order and the stock, in one transaction."""
    customer, sku, cents, note = order(dice)
    shop.execute("BEGIN IMMEDIATE")
    shop.execute("INSERT INTO orders (customer, sku, cents, note) VALUES (?, ?, ?, ?)", (customer, sku, cents, note))
    shop.execute("UPDATE stock SET pieces = pieces - 1 WHERE sku = ?", (sku,))
    shop.execute("COMMIT")


def main() -> None:
    """Sell until told to close, and keep count."""
    path, stats_path = sys.argv[1:3]
    dice = random.Random(2007)  # noqa: S311 - orders, not secrets
    closing = False

    def close(_signal: int, _frame: FrameType | None) -> None:
        nonlocal closing
        closing = True

    signal.signal(signal.SIGTERM, close)
    shop = open_shop(path, dice)
    sales, longest_seconds, told_at = 0, 0.0, 0.0
    while not closing:
        began = time.monotonic()
        sell(shop, dice)
        longest_seconds = max(longest_seconds, time.monotonic() - began)
        sales += 1
        if began - told_at > 0.1:
            told_at = began
            tell(stats_path, sales, longest_seconds)
        time.sleep(0.002)
    shop.close()
    tell(stats_path, sales, longest_seconds)


def tell(path: str, sales: int, longest_seconds: float) -> None:
    """Leave the count where it can be read."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"sales": sales, "longest_seconds": longest_seconds}, file)
    os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
