"""`roost --help` and every help below it read like a manual, whose examples can be typed."""

import shlex

import click
import pytest

from runtime.cli import roost


def commands(command, path=()):
    """Yield a command and all below it, each with the words that lead to it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


ALL = dict(commands(roost))


def test_the_commands_are_all_there():
    leaves = {" ".join(path) for path, it in ALL.items() if not isinstance(it, click.Group)}
    assert leaves == {
        "init", "dev", "serve", "status", "reload", "migrate", "objects list", "objects show",
        "objects export", "objects delete", "kv key put", "kv key get",
        "kv key list", "kv key delete", "kv bulk put", "kv bulk get", "kv export", "kv import", "kv namespace list",
        "kv namespace create", "kv namespace rename", "kv namespace delete", "kv check", "map", "bench",
        "backup", "restore", "slots list", "slots move",
    }  # fmt: skip


def lines_of(path):
    """A command's help as a terminal of 80 columns shows it."""
    context = click.Context(ALL[path], info_name=" ".join(("roost", *path)), terminal_width=80)
    return ALL[path].get_help(context).splitlines()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_help_says_what_it_is_for_and_shows_examples(path):
    lines = lines_of(path)
    assert lines[0].startswith(f"Usage: {' '.join(('roost', *path))} ")
    assert lines[2].strip()[0].isupper()
    assert any(line.startswith("    roost ") for line in lines)
    assert all(len(line) <= 96 for line in lines)
    for parameter in ALL[path].params:
        assert isinstance(parameter, click.Argument) or parameter.help
    if isinstance(ALL[path], click.Group):  # no line of the list of commands is cut short
        assert not [line for line in lines[1:] if line.endswith("...")]


def typed(line):
    """Yield the words of each `roost` in a line of shell."""
    words = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    for token in [*lexer, "|"]:
        if token in {"|", "&&", ">", "<"}:
            if words[:1] == ["roost"]:
                yield words[1:]
            words = []
        else:
            words.append(token)


def refusal(words):
    """Why a command does not take its words, or None."""
    command = roost
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words[0])
        if command is None:
            return f"no command {words[0]}"
        words = words[1:]
    try:
        command.make_context("roost", list(words))
    except click.UsageError as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_example_of_the_help_can_be_typed(path):
    examples = [line.strip() for line in lines_of(path) if line.startswith("    ")]
    found = [words for line in examples if "roost " in line for words in typed(line)]
    assert found
    for words in found:
        why = refusal(words)
        assert why is None or "does not exist" in why or "No such file" in why, (words, why)


def test_the_real_command_prints_it(run, tmp_path):
    done = run("roost --help", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Durable Objects and Workers KV for Python" in done.stdout
    assert run("python -m roost --version", tmp_path).stdout.startswith("roost, version 0.")
    nothing = run("roost", tmp_path)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr == done.stdout


def test_a_wrong_word_is_one_line_that_says_where_help_is(roost):
    assert roost("devv").failed().endswith("(see `roost --help`)")
    assert roost("kv", "key", "get").failed().endswith("(see `roost kv key get --help`)")
    assert roost("kv", "--foo").failed().endswith("(see `roost kv --help`)")
