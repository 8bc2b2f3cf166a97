"""Says what is wrong with text that is not TOML, in words of a person who writes policies."""

from __future__ import annotations

import re

_LINE = re.compile(r"\(at line (\d+)")
_YAML = re.compile(r"\s*[A-Za-z0-9_-]+\s*:(\s|$)")
_CURLY = re.compile("[\u201c\u201d\u2018\u2019]")

# What Python's reader says, and what a person does about it.
_CURES = (
    ("Cannot overwrite a value", "this key was set before; a key stands in its table once"),
    ("Cannot declare", "this table was begun before; a table stands in the file once"),
    ("Cannot mutate", "this table was begun before; a table stands in the file once"),
    ("Expected newline or end of document", "one line holds one key; a text with quotes in it is written in '...'"),
    ("Expected '=' after a key", "a line is written KEY = VALUE"),
    ("Expected ']' at the end of a table", "a table is written [NAME]"),
    ("Invalid initial character for a key", "a key is of letters, digits, '-' and '_', or stands in quotes"),
    ("Unescaped '\\'", "a text with a backslash is written in '...', or with two of them"),
    ("Illegal character '\\n'", "the closing quote is missing, or a text goes on in the next line"),
    ("Illegal character", "a text ends in its own line, and holds no control characters"),
    ("Unterminated string", "the closing quote is missing"),
    ("Unclosed array", "the closing ] is missing"),
    ("Invalid value", 'a text is written in "...", a size like "4MiB", a switch true or false'),
    ("Invalid statement", "a line is KEY = VALUE, [TABLE] or # a remark"),
)


def syntax_sentence(message: str, text: str) -> tuple[int, str]:
    """The line (from 1) and the sentence for what Python's reader of TOML said; never with what the line holds."""
    match = _LINE.search(message)
    lines = text.splitlines()
    line = int(match[1]) if match is not None else len(lines)
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    if _CURLY.search(written):
        cure = "the quotes are curly ones; TOML has straight ones"
    elif _YAML.match(written):
        cure = "a line is written KEY = VALUE, with '=' and not ':'"
    else:
        cure = next((cure for begin, cure in _CURES if message.startswith(begin)), "")
    return line, f"it is not TOML: {message}" + (f"; {cure}" if cure else "")
