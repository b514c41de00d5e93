"""Which part of a reply is taken for its answer."""

import pytest

from sestet.cli.evaluation.answers import Kind, extract, kind_of


@pytest.mark.parametrize(
    ("expected", "kind"),
    [
        ("8", "integer"),
        ("-61", "integer"),
        ("871.9", "decimal"),
        ("-46.45000000000002", "decimal"),
        ("1.5e+20", "decimal"),
        ("Darryl", "word"),
        ("False", "word"),
        ("['-87.0', '19.0']", "list"),
        ("1 2\n2 1", "lines"),
        ("8.0 + 3.0i", "line"),
        ("0x3d2d", "line"),
    ],
)
def test_the_kind_of_an_answer_is_seen_in_the_right_one(expected: str, kind: Kind) -> None:
    assert kind == kind_of(expected)


@pytest.mark.parametrize(
    ("reply", "kind", "answer"),
    [
        ("<answer>8</answer>", "integer", "8"),
        ("3 + 5 is <answer> 8 </answer>, as 5 + 3 is.", "integer", "8"),
        ("<answer>7</answer> no, <ANSWER>8</ANSWER>", "integer", "8"),
        ("<answer>3 + 5 = 8</answer>", "integer", "8"),
        ("<answer>8", "integer", "8"),  # cut before the tag was closed
        ("8</answer>", "integer", "8"),
        ("3 + 5 = 8.", "integer", "8"),
        ("**8**", "integer", "8"),
        ("It is 8.00", "integer", "8"),
        ("It is 8.05", "integer", "8.05"),
        ("10-5", "integer", "5"),
        ("3-(-5) makes -2", "integer", "-2"),
        ("\u22122", "integer", "-2"),
        ("1,234,567", "integer", "1234567"),
        ("2,5,7", "integer", "7"),
        ("the 5th", "integer", "5"),
        ("none", "integer", ""),
        ("", "integer", ""),
        ("<answer></answer> 8", "integer", ""),
        ("5.926413105940000e+08", "decimal", "5.926413105940000e+08"),
        ("12.50 is larger than 3.5", "decimal", "3.5"),
        ("Darryl.", "word", "Darryl"),
        ("<answer>It is Mary-Ann!</answer> Bye", "word", "Mary-Ann"),
        ("42", "word", ""),
        ("Sorted:\n['1', '2']\nDone.", "list", "['1', '2']"),
        ("1, 2", "list", "1, 2"),
        ("<answer>1 2\n2 1</answer>", "lines", "1 2\n2 1"),
        ("1 2\n2 1\n", "lines", "1 2\n2 1"),
        ("I think.\n\n**The final answer is: 8.0 + 3.0i**\n", "line", "8.0 + 3.0i"),
        ("Answer: 0x3d2d", "line", "0x3d2d"),
        ("Answers differ", "line", "Answers differ"),
        ("<answer>a\nb</answer>", "line", "a\nb"),
    ],
)
def test_one_part_of_a_reply_is_its_answer(reply: str, kind: Kind, answer: str) -> None:
    assert answer == extract(reply, kind)
