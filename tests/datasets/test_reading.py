"""Uploads become records: what is taken, what is left out and why, and that reading goes on anywhere."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.datasets import reading
from keyturn.datasets.reading import Reader
from keyturn.errors import InvalidInput


def read(data, form="csv", **values):
    bodies, rejects = [], []
    for batch in Reader(io.BytesIO(data), form, **values).batches():
        bodies += map(json.loads, batch.bodies)
        rejects += batch.rejects
    return bodies, rejects


def test_csv():
    """Quotes, line ends inside them, a byte order mark, CRLF, empty lines."""
    data = b'\xef\xbb\xbfid,name\r\n1,"a ""b"", c"\r\n\r\n2,"two\nlines"\r\n3,\xc3\xbc'
    assert read(data) == (
        [{"id": "1", "name": 'a "b", c'}, {"id": "2", "name": "two\nlines"}, {"id": "3", "name": "ü"}],
        [],
    )


def test_other_delimiters():
    """Semicolons are what many spreadsheets write."""
    assert read(b"a;b\n1;2,5\n", delimiter=";")[0] == [{"a": "1", "b": "2,5"}]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"1", "1 fields instead of 2"),
        (b"1,2,3", "3 fields instead of 2"),
        (b"1,\xff", "not UTF-8"),
        (b'1,"x"y', "not CSV: a quote is in the wrong place"),
        (b"1,a\x00b", "holds a NUL character"),
        (b"1," + b"x" * 200_000, "a field is longer than 128 KiB: is a quote left open?"),
        (b"1," + b"x" * 1_100_000, "longer than 1 MiB"),
    ],
)
def test_a_bad_csv_record_is_left_out_alone(record, why):
    """With its line and reason; its neighbours are taken."""
    bodies, rejects = read(b"a,b\n0,x\n" + record + b"\n9,y\n")
    assert bodies == [{"a": "0", "b": "x"}, {"a": "9", "b": "y"}]
    assert [(r.line, r.offset, r.why) for r in rejects] == [(3, 8, why)]


def test_an_open_quote_costs_128_kibibytes_at_most():
    """And its report says from which line to which."""
    rows = b"".join(b"%d,y\n" % n for n in range(300_000))
    bodies, rejects = read(b'a,b\n1,"open\n' + rows)
    assert len(rejects) == 1
    assert rejects[0].line == 2
    assert rejects[0].why.endswith("is a quote left open?")
    taken = 300_000 - (rejects[0].last_line - 2)
    assert len(bodies) == taken > 270_000


def test_a_quote_open_at_the_end():
    """The last record is left out, nothing hangs."""
    bodies, rejects = read(b'a,b\n1,2\n3,"x\n4,5\n')
    assert len(bodies) == 1
    assert [(r.line, r.last_line, r.why) for r in rejects] == [(3, 4, "ends inside quotes")]


@pytest.mark.parametrize(
    "head", [b"", b"\n1,2\n", b"a,,b\n", b"a,a\n", b"\xff\n", b",".join([b"x%d" % n for n in range(600)])]
)
def test_no_header_no_load(head):
    """A CSV file without usable column names is no data at all."""
    with pytest.raises(InvalidInput):
        read(head)


@pytest.mark.parametrize(
    "start", ["a,b\n1,2\n".encode("utf-16"), b"\x1f\x8b\x08\x00", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"]
)
def test_what_is_not_text_is_refused_whole(start):
    """UTF-16 and compressed data are said by name."""
    with pytest.raises(InvalidInput, match=r"UTF-16|compressed"):
        read(start)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"NaN", "not JSON"),
        (b'{"a": Infinity}', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "holds half a character (a lone surrogate)"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}', "longer than 1 MiB"),
    ],
)
def test_a_bad_ndjson_record_is_left_out_alone(record, why):
    """With its line and reason; its neighbours are taken."""
    bodies, rejects = read(b'{"a": 0}\n' + record + b'\n\n{"b": [1, {"c": null}]}', "ndjson")
    assert bodies == [{"a": 0}, {"b": [1, {"c": None}]}]
    assert [(r.line, r.offset, r.why) for r in rejects] == [(2, 9, why)]


def test_columns_of_ndjson_are_bounded():
    """A record with a new key each cannot grow the list of columns without end."""
    data = b"".join(b'{"k%d": 1}\n' % n for n in range(700))
    bodies, rejects = read(data, "ndjson")
    assert (len(bodies), len(rejects)) == (500, 200)


_FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_FIELD, _FIELD), max_size=40), st.integers(1, 7), st.booleans())
def test_reading_goes_on_at_any_batch(rows, size, quoted):
    """From each batch's offset, line and columns a new reader gives exactly the rest."""
    import csv

    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerows([("a", "b"), *rows])
    data = text.getvalue().encode()
    whole, none = read(data)
    assert none == []
    assert [(r["a"], r["b"]) for r in whole] == rows
    found, offset, line, columns = [], 0, 0, ()
    old = reading.BATCH_ROWS
    reading.BATCH_ROWS = size
    try:
        while True:
            reader = Reader(io.BytesIO(data), "csv", offset=offset, line=line, columns=columns)
            batch = next(reader.batches())
            found += map(json.loads, batch.bodies)
            if not batch.bodies:
                break
            offset, line, columns = batch.offset, batch.line, reader.columns
    finally:
        reading.BATCH_ROWS = old
    assert found == whole
