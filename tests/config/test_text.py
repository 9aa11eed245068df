"""Text into data: comments and commas of JSONC, quotes of .dev.vars, files that cannot be read."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.config.text import parse_secrets, plain_json, read_table
from workers.errors import ConfigError

tricky = st.text(st.sampled_from('"\\/*,]}[{: \na')) | st.text()
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | tricky,
    lambda inner: st.lists(inner) | st.dictionaries(tricky, inner),
    max_leaves=12,
)
comments = st.sampled_from(["", " ", '// "a,]\n', '/* , } " // \n */', "/**/", "\t// /*\n"])


@given(documents)
@example("// no comment /* either */, ]")
@example({'"': ",}"})
def test_plain_json_stays_as_it_is(document: object):
    text = json.dumps(document, indent=1)
    assert plain_json(text) == text


def _commented(value: object, data: st.DataObject) -> str:
    """Print a document with comments everywhere and commas after every last item."""
    gap = data.draw(comments)
    if isinstance(value, list) and value:
        return gap + "[" + "".join(_commented(v, data) + "," for v in value) + gap + "]"
    if isinstance(value, dict) and value:
        pairs = (json.dumps(k) + gap + ":" + _commented(v, data) + "," for k, v in value.items())
        return gap + "{" + gap + "".join(pairs) + gap + "}"
    return gap + json.dumps(value) + gap


@given(documents, st.data())
def test_comments_and_trailing_commas_change_nothing(document: object, data: st.DataObject):
    text = _commented(document, data)
    assert json.loads(plain_json(text)) == document


@given(st.text(st.sampled_from('"\\/*,]}[{: \na')) | st.text())
def test_every_character_keeps_its_line_and_column(text: str):
    plain = plain_json(text)
    assert [len(line) for line in plain.split("\n")] == [len(line) for line in text.split("\n")]


@pytest.mark.parametrize("text", ["[1,,]", "/* open", '"a\n// b"', "[1] 2", ""])
def test_what_is_wrong_in_json_stays_wrong(text: str):
    with pytest.raises(ValueError, match="line"):
        json.loads(plain_json(text))


def test_an_error_in_jsonc_is_placed_where_it_stands_in_the_file(tmp_path: Path):
    path = tmp_path / "wrangler.jsonc"
    path.write_text('{ /* two\nlines */ "name": oops }')
    with pytest.raises(ConfigError, match=r"wrangler\.jsonc: not valid JSON: .*line 2 column 18"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("wrangler.toml", b"a = 1\nb = c", "not valid TOML: .*line 2, column 5"),
        ("wrangler.toml", b"\xff\xfe", "not UTF-8"),
        ("wrangler.json", b"[1]", "expected an object at the top level, found list"),
        ("wrangler.json", b"[" * 100_000, "not valid JSON: nested too deep"),
        ("wrangler.toml", b"a = " + b"[" * 100_000, "not valid TOML: nested too deep"),
        ("wrangler.yaml", b"name: a", r"expected a \.toml, \.jsonc or \.json file"),
    ],
)
def test_a_file_that_is_no_configuration_says_why(
    tmp_path: Path, name: str, content: bytes, problem: str
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        read_table(path)
    assert caught.value.file == str(path)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        read_table(tmp_path / "wrangler.toml")
    (tmp_path / "wrangler.json").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        read_table(tmp_path / "wrangler.json")


def test_a_byte_order_mark_is_no_content(tmp_path: Path):
    path = tmp_path / "wrangler.json"
    path.write_bytes(b'\xef\xbb\xbf{"name": "a"}')
    assert read_table(path) == {"name": "a"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("  export K = v  ", "v"),
        ("K: v", "v"),
        ("K=", ""),
        ("K=a b # c", "a b"),
        ("K='a # b'", "a # b"),
        ('K="a\\nb" # c', "a\nb"),
        ("K='a\\nb'", "a\\nb"),
        ('K=`it\'s "so"`', 'it\'s "so"'),
        ('K="two\nlines"', "two\nlines"),
        ('K={"a": 1}', '{"a": 1}'),
        ("K=a=b", "a=b"),
        ('K="', '"'),
        ("# K=no\nK=yes", "yes"),
        ("K=1\nK=2", "2"),
    ],
)
def test_a_secret_reads_as_dotenv_reads_it(line: str, value: str):
    assert parse_secrets(line) == {"K": value}


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]*", fullmatch=True), st.text()))
def test_quoted_secrets_come_back_whole(secrets: dict[str, str]):
    plain = {k: v.replace("'", "").replace("\\", "") for k, v in secrets.items()}
    assert parse_secrets("\n".join(f"{k}='{v}'" for k, v in plain.items())) == plain


@given(st.text())
def test_no_text_is_too_strange_for_secrets(text: str):
    assert all(isinstance(value, str) for value in parse_secrets(text).values())
