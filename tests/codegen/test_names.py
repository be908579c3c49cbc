"""Any string becomes an identifier, a literal, a comment or a docstring, and nothing else."""

import ast
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgmcompile.codegen.names import Namespace, class_name, docstring, identifier, is_plain, one_line

NAMES = [
    "z",
    "class",
    "print",
    "self",
    "torch",
    "l",
    "",
    "_",
    "1a",
    "a.b",
    "x y",
    "é",
    "ﬁ",
    "fi",
    "x\ny",
    "__x",
    "μ",
    "数",
]


def test_what_resembles_a_name_stays_it():
    names = Namespace()
    assert [names.new(text) for text in ("z", "teacher.z", "auto/z", "class", "len", "z", "1a", "", "μ", "__x")] == [
        *("z", "teacher_z", "auto_z", "class_1", "len_1", "z_1", "value_1a", "value", "μ", "x"),
    ]


@given(st.lists(st.one_of(st.text(max_size=80), st.sampled_from(NAMES)), max_size=30))
def test_every_name_is_another_identifier(texts: list[str]):
    names = Namespace({"taken"})
    given = [names.new(text) for text in texts]
    assert len(set(given)) == len(given)
    for name in given:
        assert name.isidentifier() and not keyword.iskeyword(name) and name != "taken"
        assert not name.startswith("_")
        # Python reads an identifier in normal form: one that is not would be another name
        assert ast.unparse(ast.parse(name)) == name


@given(st.text(max_size=80))
def test_a_class_name_is_an_identifier(text: str):
    assert class_name(text).isidentifier()
    assert identifier(class_name(text)) == class_name(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("hvae", "Hvae"), ("HVAE", "HVAE"), ("markov_model", "MarkovModel"), ("Net.forward", "NetForward"), ("", "Model")],
)
def test_class_names_are_written_as_classes_are(text: str, expected: str):
    assert class_name(text) == expected


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_docstring_is_one_string_and_nothing_else(lines: list[str]):
    tree = ast.parse(f"{docstring(*lines)}\nx = 1")
    text, assign = tree.body
    assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    assert isinstance(assign, ast.Assign)


@given(st.text())
def test_one_line_is_one_line(text: str):
    assert len(one_line(f"a{text}b").splitlines()) == 1


def test_a_mangled_name_does_not_stand_after_a_dot():
    assert is_plain("weight") and is_plain("_weight") and is_plain("__dunder__")
    assert not any(map(is_plain, ("__weight", "0", "a b", "class", "", "μ")))
