"""Names by a token classifier: found whole, replaced everywhere, and put back into the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny_names import write_tiny_names
from weir.common.config import ConfigError
from weir.engines.base import ChatMessage, Constraint, Sampling
from weir.frontier_proxy.names import NameFinder
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.redacted import names_of, redacted
from weir.frontier_proxy.redaction import Redactor, unfinished
from weir.frontier_proxy.stages import Restore


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> NameFinder:
    return NameFinder(write_tiny_names(tmp_path_factory.mktemp("names")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is a weir?", []),
        ("", []),
        ("She lives in London.", []),
        ("Ask Ada about it.", ["Ada"]),
        ("Ask Ada Lovelace about it.", ["Ada Lovelace"]),
        ("Ada, Grace Hopper and Ada", ["Ada", "Grace Hopper"]),
        ("Ada\nGrace", ["Ada", "Grace"]),
        ("Jean-Luc was here", ["Jean-Luc"]),
        ("ADA LOVELACE", ["ADA LOVELACE"]),
        ("我叫李雷。", ["李雷"]),
        ("🌊 Ada 🌊", ["Ada"]),
    ],
)
def test_names_are_found_whole_as_they_are_written(names: NameFinder, text: str, found: list[str]) -> None:
    assert names(text) == found


def test_a_word_of_which_a_part_is_marked_counts_whole(names: NameFinder) -> None:
    """The tiny model's pieces of "lovelace" are names, those of "Graceland" are not in its vocabulary."""
    assert names("Lovelaces in") == []
    assert names("Lovelace in") == ["Lovelace"]


def test_a_text_longer_than_the_models_window_is_read_to_its_end(tmp_path: Path) -> None:
    names = NameFinder(write_tiny_names(tmp_path, longest=16))
    assert names("in " * 200 + "Ada Lovelace" + " in" * 200 + " Grace") == ["Ada Lovelace", "Grace"]


@pytest.mark.parametrize("offset", range(16))
def test_a_name_across_the_border_of_two_windows_is_found_whole(tmp_path: Path, offset: int) -> None:
    names = NameFinder(write_tiny_names(tmp_path, longest=16))
    assert names("in " * (8 + offset) + "Grace Hopper" + " in" * 20) == ["Grace Hopper"]


def test_labels_of_other_schemes_are_understood(tmp_path: Path) -> None:
    for labels in (("O", "GIVENNAME1", "I-SURNAME", "CITY"), ("O", "U-PERSON", "FIRST_NAME", "LOC")):
        assert NameFinder(write_tiny_names(tmp_path, labels=labels))("Ada Lovelace") == ["Ada Lovelace"]


def spoil(folder: Path, file: str, content: str | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", None, "config.json"),
        ("config.json", "{}", "id2label"),
        ("config.json", '{"id2label": {"0": "LABEL_0"}}', "LABEL_0"),
        ("config.json", '{"id2label": {"0": "O", "1": "B-PER"}}', "4 scores a token for 2 labels"),
        ("tokenizer.json", None, "cannot be opened"),
        ("model.onnx", "no network", "cannot be opened"),
    ],
)
def test_a_model_that_cannot_be_used_is_a_configuration_error(
    tmp_path: Path, file: str, content: str | None, says: str
) -> None:
    spoil(write_tiny_names(tmp_path), file, content)
    with pytest.raises(ConfigError, match=rf"frontier\.names_model.*{says}"):
        names_of(tmp_path)


def test_without_a_model_no_names_are_looked_for() -> None:
    assert names_of(None) is None


def request(*turns: str, **fields: object) -> ProviderRequest:
    messages = tuple(ChatMessage("user", turn) for turn in turns)
    return ProviderRequest("m", messages, fields.pop("sampling", Sampling()), **fields)  # type: ignore[arg-type]


def test_a_name_has_one_placeholder_in_all_of_a_request(names: NameFinder) -> None:
    asked = request("I am Ada Lovelace.", "Ada Lovelace or Grace?", sampling=Sampling(stop=("Grace",)))
    sent, originals, _ = redacted(asked, names)
    assert originals == {"[NAME_1]": "Ada Lovelace", "[NAME_2]": "Grace"}
    assert [m.content for m in sent.messages[1:]] == ["I am [NAME_1].", "[NAME_1] or [NAME_2]?"]
    assert sent.sampling.stop == ("[NAME_2]",)
    assert "[NAME_1]" in sent.messages[0].content


def test_the_same_request_gets_the_same_placeholders_again(names: NameFinder) -> None:
    asked = request("Grace Hopper, Ada, ada@example.org")
    assert redacted(asked, names) == redacted(asked, names)


def test_a_name_that_the_model_misses_elsewhere_is_replaced_there_too() -> None:
    redactor = Redactor(["Will is here.", "I asked Will."], ["Will"])
    assert redactor.redact("I asked Will, who will.") == "I asked [NAME_1], who will."


def test_a_name_is_not_replaced_inside_of_other_words() -> None:
    redactor = Redactor(["Ada"], ["Ada", "李雷"])
    assert redactor.redact("Adam, Granada, Ada's") == "Adam, Granada, [NAME_1]'s"
    assert redactor.redact("我叫李雷吗") == "我叫[NAME_2]吗"


def test_a_name_inside_an_address_goes_with_the_address() -> None:
    assert Redactor([""], ["ada"]).redact("ada, ada@example.org") == "[NAME_1], [EMAIL_1]"


def test_each_text_of_a_request_is_read_once_for_all_its_attempts(names: NameFinder) -> None:
    read: list[str] = []

    def finder(text: str) -> list[str]:
        read.append(text)
        return names(text)

    known: dict[str, list[str]] = {}
    asked = request("Ada Lovelace in", "Grace Hopper in")
    first = redacted(asked, finder, known)
    assert redacted(asked, finder, known) == first
    continued = replace(asked, prefix="in Ada")
    sent, _, _ = redacted(continued, finder, known)
    assert sent.messages == first[0].messages
    assert sorted(read) == sorted({"Ada Lovelace in", "Grace Hopper in", "in Ada", ""})


def test_a_schemas_own_words_are_not_taken_for_names(names: NameFinder) -> None:
    schema = {"type": "object", "properties": {"ada": {"enum": ["Grace Hopper"], "description": "of Ada"}}}
    asked = request("Who?", constraint=Constraint("json_schema", (json.dumps(schema),)))
    sent, _, _ = redacted(asked, names)
    assert sent.constraint is not None
    changed = json.loads(sent.constraint.value[0])
    assert changed["type"] == "object"
    assert changed["properties"]["ada"] == {"enum": ["[NAME_1]"], "description": "of [NAME_2]"}


def test_choices_that_are_names_are_replaced(names: NameFinder) -> None:
    sent, _, _ = redacted(request("Who?", constraint=Constraint("choices", ("Ada", "in"))), names)
    assert sent.constraint == Constraint("choices", ("[NAME_1]", "in"))


def test_names_come_back_wherever_the_answer_is_cut(names: NameFinder) -> None:
    text = "Ada Lovelace wrote to Grace (ada@example.org): Ada Lovelace, 李雷!"
    sent, originals, _ = redacted(request(text), names)
    echo = sent.messages[1].content
    assert "Lovelace" not in echo
    for first in range(len(echo) + 1):
        for second in range(first, len(echo) + 1):
            restore = Restore(originals)
            pieces = (echo[:first], echo[first:second], echo[second:])
            assert "".join(map(restore.feed, pieces)) + restore.flush() == text


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Dear Grace Hop", "per"),
        ("Dear Grace ", ""),
        ("Dear Grace", ""),
        ("Dear Grace Hopper", ""),
        ("of Gracel", ""),
    ],
)
def test_a_name_that_a_text_breaks_off_within_is_completed(text: str, missing: str) -> None:
    assert unfinished(text, ["Grace Hopper", "Graceland"]) == missing
