"""`ctx.storage.sql`: SQLite for scripts, and what it refuses them."""

import json
import pickle

import pytest

from runtime.storage.sql_guard import statements_of
from workers.errors import SqlError


@pytest.fixture
def sql(sqlite):
    return sqlite.sql


@pytest.fixture
def numbers(sql):
    """A table of three rows."""
    sql.exec("CREATE TABLE n(i INTEGER PRIMARY KEY, t TEXT)")
    sql.exec("INSERT INTO n VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    return sql


def test_rows_are_dicts_with_attributes_and_travel(numbers):
    row = numbers.exec("SELECT i, t FROM n WHERE i = ?", 2).one()
    assert row == {"i": 2, "t": "two"}
    assert (row["t"], row.t) == ("two", "two")
    assert json.dumps(row) == '{"i": 2, "t": "two"}'
    assert pickle.loads(pickle.dumps(row)).t == "two"
    with pytest.raises(AttributeError, match="no column 'x'"):
        row.x  # noqa: B018


def test_a_cursor_is_read_once_whichever_way(numbers):
    cursor = numbers.exec("SELECT * FROM n ORDER BY i")
    assert cursor.columnNames == cursor.column_names == ["i", "t"]
    assert cursor.next() == {"done": False, "value": {"i": 1, "t": "one"}}
    assert next(cursor).i == 2
    assert cursor.rowsRead == 2
    assert list(cursor.raw()) == [[3, "three"]]
    assert cursor.next() == {"done": True, "value": None}
    assert cursor.toArray() == []
    assert cursor.rows_read == 3
    raw = numbers.exec("SELECT i FROM n ORDER BY i").raw()
    assert raw.next() == {"done": False, "value": [1]}
    assert raw.toArray() == [[2], [3]]
    assert (raw.next(), raw.to_array()) == ({"done": True, "value": None}, [])
    assert [row.t for row in numbers.exec("SELECT t FROM n ORDER BY i")] == ["one", "two", "three"]


def test_columns_are_known_without_rows_and_may_have_one_name(numbers):
    assert numbers.exec("SELECT i FROM n WHERE 0").column_names == ["i"]
    both = "SELECT 1 AS a, 2 AS a"
    assert numbers.exec(both).one() == {"a": 2}
    assert list(numbers.exec(both).raw()) == [[1, 2]]


def test_one_wants_exactly_one_row(numbers):
    with pytest.raises(SqlError, match="but got no results"):
        numbers.exec("SELECT * FROM n WHERE i > 9").one()
    with pytest.raises(SqlError, match="but got multiple results"):
        numbers.exec("SELECT * FROM n").one()
    numbers.exec("DROP TABLE n")  # no cursor is left open


def test_rows_written_are_counted_those_of_triggers_too(numbers):
    assert numbers.exec("UPDATE n SET t = 'x' WHERE i < 3").rowsWritten == 2
    numbers.exec("CREATE TABLE log(i)")
    numbers.exec("CREATE TRIGGER tr AFTER DELETE ON n BEGIN INSERT INTO log VALUES (old.i); END")
    assert numbers.exec("DELETE FROM n").rows_written == 6
    assert numbers.exec("SELECT count(*) AS c FROM log").one().c == 3
    returning = numbers.exec("INSERT INTO n VALUES (8, 'x'), (9, 'x') RETURNING i")
    assert returning.rows_written == 2
    assert returning.toArray() == [{"i": 8}, {"i": 9}]


def test_values_keep_their_types_and_64_bits(sql):
    sql.exec("CREATE TABLE v(a, b, c, d, e, f)")
    values = (None, -(1 << 63), 1.5, "é", b"\0\xff", True)
    sql.exec("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?)", *values)
    assert list(sql.exec("SELECT * FROM v").raw()) == [[*values[:5], 1]]
    assert sql.exec("SELECT ? AS x", memoryview(b"m")).one().x == b"m"


@pytest.mark.parametrize("value", [1 << 63, [1], {"a": 1}, 1j, object()])
def test_a_binding_of_another_type_is_refused(sql, value):
    with pytest.raises(TypeError, match=r"binding of sql\.exec|at most 64 bits"):
        sql.exec("SELECT ?", value)


def test_numpy_numbers_are_numbers(sql):
    numpy = pytest.importorskip("numpy")
    row = sql.exec("SELECT ? AS i, ? AS f", numpy.int64(7), numpy.float32(0.5)).one()
    assert row == {"i": 7, "f": 0.5}


def test_many_statements_run_in_order_and_the_last_has_bindings_and_rows(sql):
    cursor = sql.exec(
        """
        CREATE TABLE a(x); -- ; not the end
        INSERT INTO a VALUES ('a;b'), ("c");
        /* ; */ CREATE TRIGGER t AFTER INSERT ON a BEGIN
            UPDATE a SET x = x || '!'; UPDATE a SET x = x || '?'; END;
        INSERT INTO a VALUES (?) RETURNING x;
        -- the end
        """,
        "d",
    )
    assert cursor.toArray() == [{"x": "d"}]
    found = [row[0] for row in sql.exec("SELECT x FROM a").raw()]
    assert found == ["a;b!?", "c!?", "d!?"]


def test_semicolons_within_anything_end_no_statement(sql):
    text = """SELECT ';' AS "a;b", 1 AS [c;d], 2 AS `e;f`, 'it''s;' AS g /* ; */ -- ;"""
    assert [each.sql for each in statements_of(f"{text}\n; SELECT 2;;")] == [
        f"{text}\n;",
        " SELECT 2;",
    ]
    assert list(sql.exec(text).raw()) == [[";", 1, 2, "it's;"]]
    for open_ in ("'", '"', "`", "[", "/*"):
        assert len(statements_of(f"SELECT {open_};;")) == 1


def test_semicolons_in_a_string_are_not_looked_at_one_by_one(monkeypatch):
    looked = []
    monkeypatch.setattr("apsw.complete", lambda text: looked.append(text) or True)
    assert len(statements_of("SELECT '" + ";" * 1000 + "'; SELECT 1")) == 2
    assert len(looked) == 1


def test_the_statements_of_long_texts_are_not_kept():
    for length, are_kept in ((10, True), (10_000, False)):
        text = f"SELECT '{'x' * length}'"
        once, again = statements_of(text), statements_of(text)
        assert once == again
        assert (once is again) is are_kept


def test_a_text_that_is_not_utf_8_is_an_sql_error(sql):
    broken = "SELECT CAST(x'ff' AS TEXT) AS t"
    for read in (next, list, lambda cursor: cursor.one(), lambda cursor: cursor.toArray()):
        with pytest.raises(SqlError, match="not valid UTF-8"):
            read(sql.exec(broken))
    sql.exec("CREATE TABLE t(t)")
    with pytest.raises(SqlError, match="not valid UTF-8"):
        sql.exec(f"INSERT INTO t {broken} RETURNING t")
    assert sql.exec("SELECT CAST(t AS BLOB) AS b FROM t").one().b == b"\xff"
    sql.exec("DROP TABLE t")  # no cursor is left open


def test_a_statement_that_fails_leaves_those_before_it(sql):
    with pytest.raises(SqlError, match="no such table: nope: SQLITE_ERROR"):
        sql.exec("CREATE TABLE a(x); INSERT INTO a VALUES (1); INSERT INTO nope VALUES (1)")
    assert sql.exec("SELECT x FROM a").one() == {"x": 1}


@pytest.mark.parametrize(
    "text", ["", " ; ;", "-- nothing", "/* nothing */ ;", "/* open", "/**/--\n/* * */"]
)
def test_no_statement_is_an_error(sql, text):
    assert statements_of(text) == ()
    with pytest.raises(SqlError, match="did not contain a statement"):
        sql.exec(text)


def test_foreign_keys_json_and_full_text_search_work(sql):
    sql.exec("CREATE TABLE p(i INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p)")
    with pytest.raises(SqlError, match="FOREIGN KEY constraint failed") as raised:
        sql.exec("INSERT INTO c VALUES (1)")
    assert raised.value.code == "SQLITE_CONSTRAINT"
    assert raised.value.extended_code == "SQLITE_CONSTRAINT_FOREIGNKEY"
    assert sql.exec("""SELECT '{"a": [5]}' -> '$.a[0]' AS x""").one().x == "5"
    sql.exec("CREATE VIRTUAL TABLE f USING fts5(body)")
    sql.exec("INSERT INTO f VALUES ('a quick brown fox'), ('a lazy dog')")
    found = sql.exec("SELECT highlight(f, 0, '<', '>') AS h FROM f WHERE f MATCH ?", "fox").one()
    assert found.h == "a quick brown <fox>"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("BEGIN", "please use the state.storage.transaction"),
        ("begin immediate", "please use the state.storage.transaction"),
        ("COMMIT", "please use the state.storage.transaction"),
        ("ROLLBACK", "please use the state.storage.transaction"),
        ("SAVEPOINT s", "please use the state.storage.transaction"),
        ("RELEASE s", "please use the state.storage.transaction"),
        ("ATTACH 'x' AS x", "one file"),
        ("DETACH main", "one file"),
        ("VACUUM", "cannot VACUUM"),
        ("VACUUM INTO 'x'", "cannot VACUUM"),
        ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode is not allowed: SQLITE_AUTH"),
        ("PRAGMA user_version", "PRAGMA user_version is not allowed"),
        ("PRAGMA page_size = 512", "PRAGMA page_size is not allowed"),
        ("PRAGMA writable_schema = 1", "PRAGMA writable_schema is not allowed"),
        ("PRAGMA table_info(_cf_KV)", "access to _cf_KV is prohibited"),
        ("SELECT * FROM _cf_KV", "access to _cf_KV.key is prohibited: SQLITE_AUTH"),
        ("SELECT count(*) FROM _CF_kv", "prohibited"),
        ("SELECT value FROM _cf_KV WHERE key = ?", "access to _cf_KV.value is prohibited"),
        ("DELETE FROM _cf_METADATA", "access to _cf_METADATA is prohibited"),
        ("DROP TABLE _cf_KV", "access to _cf_KV is prohibited"),
        ("ALTER TABLE _cf_KV RENAME TO x", "access to _cf_KV is prohibited"),
        ("CREATE TABLE t(a); ALTER TABLE t RENAME TO _cf_LARGE", "no table can get one"),
        ('CREATE TABLE t(a); ALTER TABLE t rename /**/ to"_CF_x"', "no table can get one"),
        ("CREATE TABLE _cf_x(a)", "access to _cf_x is prohibited"),
        ("CREATE TRIGGER t AFTER INSERT ON _cf_KV BEGIN SELECT 1; END", "_cf_KV is prohibited"),
        ("CREATE TEMP TABLE t(a)", "temporary tables are not allowed"),
        ("CREATE VIRTUAL TABLE t USING dbstat", "module dbstat are not allowed"),
        ("SELECT load_extension('x')", "not authorized to use function: load_extension"),
        ("SELECT sqlite_version()", "not authorized to use function: sqlite_version"),
        ("DELETE FROM sqlite_schema", "may not be modified"),
    ],
)
def test_what_is_the_engines_is_refused_with_the_reason(sqlite, query, text):
    sqlite.kv.put("secret", 1)
    bindings = ("k",) if "?" in query else ()
    with pytest.raises(SqlError, match=text):
        sqlite.sql.exec(query, *bindings)
    assert sqlite.kv.get("secret") == 1


async def test_entries_cannot_be_reached_by_what_the_engine_has_prepared(sqlite, commit):
    await sqlite.put("k", 1)
    sqlite.sql.exec("SELECT 1")
    commit(sqlite)
    sqlite._writes.known.clear()
    assert await sqlite.get("k") == 1  # prepares, and caches, a statement of the engine's
    with pytest.raises(SqlError, match="prohibited"):
        sqlite.sql.exec("SELECT value FROM _cf_KV WHERE key = ?", b"k")
    view = "CREATE VIEW v AS SELECT * FROM _cf_KV"
    sqlite.sql.exec(view)
    with pytest.raises(SqlError, match="prohibited"):
        sqlite.sql.exec("SELECT * FROM v")
    sqlite.sql.exec("CREATE TABLE t(a)")
    sqlite.sql.exec("CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM _cf_KV; END")
    with pytest.raises(SqlError, match="prohibited"):
        sqlite.sql.exec("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("bindings", [(), (1, 2)])
def test_a_wrong_number_of_bindings_is_refused(sql, bindings):
    with pytest.raises(SqlError, match="Wrong number of parameter bindings for SQL query"):
        sql.exec("SELECT ?", *bindings)


def test_pragmas_that_read_are_allowed(numbers):
    assert [row.name for row in numbers.exec("PRAGMA table_info(n)")] == ["i", "t"]
    assert numbers.exec("PRAGMA foreign_keys").one() == {"foreign_keys": 1}
    assert numbers.exec("PRAGMA quick_check").one() == {"quick_check": "ok"}
    numbers.exec("PRAGMA optimize")
    numbers.exec("ANALYZE")


def test_a_syntax_error_says_where(sql):
    with pytest.raises(SqlError, match=r'near "nope": syntax error at offset 17: SQLITE_ERROR'):
        sql.exec("SELECT nope nope nope")


def test_the_size_grows_with_what_is_in_it(sql):
    before = sql.databaseSize
    assert 0 < before <= 16_384
    sql.exec("CREATE TABLE b(x); INSERT INTO b VALUES (zeroblob(100000))")
    assert sql.database_size >= before + 100_000


def test_a_value_over_the_limit_is_refused(sql):
    with pytest.raises(SqlError, match="SQLITE_TOOBIG"):
        sql.exec("CREATE TABLE b AS SELECT zeroblob(2000000)")


def test_a_class_without_sqlite_is_told_what_to_do(storage):
    for use in (
        lambda: storage.sql,
        lambda: storage.kv,
        lambda: storage.transactionSync(lambda: 1),
    ):
        with pytest.raises(SqlError, match="new_sqlite_classes"):
            use()
