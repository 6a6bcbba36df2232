"""Inputs made from right ones by what goes wrong: cuts, repeats, foreign bytes; and long ones of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

#: what has a meaning to one reader or another
WORDS = (
    *(b"", b"\0", b"\n", b"\r\n", b" ", b"\t", b"\x1b[31m", b"\x1b]0;x\x07", b"\xff\xfe", b"\xc3", b"\xe2\x80\xae"),
    *(
        b":",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"!!bool x",
        b"<<: ",
        b"|",
        b"?",
    ),
    *(
        b"{{",
        b"}}",
        b"{%",
        b"%}",
        b"{{ 9**9**9 }}",
        b"{{ ''.__class__ }}",
        b"{% for a in range(9) %}",
        b"\n---\n",
        b"#",
    ),
    *(b'"', b"'", b"=", b",", b"--", b"0x", b"-1", b"99999999999999999999999999", b"1e999", b"nan", b"null", b"true"),
    *(
        b"0000:00:02.0",
        b"ffff:ff:1f.7",
        b"[bus 00-ff]",
        b"\x01TB1",
        b"$",
        b"#00",
        b"\\x1b",
        b";",
        b"<",
        b"&#0;",
        b"]]>",
    ),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Return a seed after a few accidents, or any bytes at all."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=300))
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = draw(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


#: what grows by repeating one thing, from its size in bytes
GROWING: dict[str, Callable[[int], bytes]] = {
    **{repr(word): (lambda size, word=word: word * (size // len(word))) for word in WORDS if word},  # type: ignore[misc]
    "letters": lambda size: b"a" * size,
    "digits": lambda size: b"0" * size,
    "hex": lambda size: b"f" * size,
    "words": lambda size: b"a " * (size // 2),
    "options": lambda size: b"a=b,c " * (size // 6),
    "keys": lambda size: b"".join(b"k%d: {a: 1}\n" % number for number in range(size // 14)),
    "nested": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
}
