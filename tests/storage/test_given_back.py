"""The databases of the tests themselves: one that is used again shows nothing of the test before."""

import psycopg
import pytest

from tests import stores

pytestmark = pytest.mark.postgres


def held(address):
    """All rows of all tables, and where each sequence stands."""
    with psycopg.connect(address) as there:
        tables = there.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        ).fetchall()
        rows = {
            table: there.execute(f"SELECT json_agg(t)::text FROM {table} t").fetchone() for (table,) in tables
        }
        return rows, there.execute("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1").fetchall()


def test_a_database_given_back_is_like_a_new_one(tmp_path, monkeypatch):
    """What was written is gone, what was deleted is back, and sequences begin at one; one still in use is left alone."""
    monkeypatch.setattr(stores, "ON_POSTGRESQL", True)
    first = stores.url(tmp_path / "a" / "home")
    new = held(first)
    with psycopg.connect(first) as there:
        there.execute("SET session_replication_role = replica")
        there.execute("DELETE FROM schema_version")
        there.execute("UPDATE chain SET journal_count = 7")
        there.execute("INSERT INTO project VALUES ('prj_1', 'Billing', 0, 'ada')")
        there.execute("SELECT nextval(oid::regclass) FROM pg_class WHERE relkind = 'S'")
    assert held(first) != new
    stores.give_back(tmp_path / "a")
    again = stores.url(tmp_path / "b" / "home")
    assert (again, held(again)) == (first, new)
    with psycopg.connect(again):
        stores.give_back(tmp_path / "b")
        other = stores.url(tmp_path / "c" / "home")
        assert (other != first, held(other)) == (True, new)
    stores.give_back(tmp_path)
