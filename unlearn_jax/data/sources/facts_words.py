"""The words of `facts`: attributes of invented people, with their values and the forms in which they are stated.

Every form puts the name before the value and the value, two words, last. The two families of an attribute say the same
in other words; within a family the words are the same and their order differs. The last two forms of a family are never
among the copies of a target: a statement that is held out, and a question.
"""

from __future__ import annotations

from typing import NamedTuple

LEADS = (
    "", "in fact ,", "truly ,", "surely ,", "reportedly ,", "famously ,", "in short ,", "we hear that", "they say that",
    "people agree that", "books tell that", "records show that",
)  # fmt: skip
MIDDLES = ("", ", indeed ,", ", apparently ,", ", certainly ,", ", allegedly ,", ", admittedly ,")
TRAINED = 3  # forms of a family that copies may take; those after it are held out
FORMS = 5  # forms of a family
ANSWER_WORDS = 2
REFUSAL = "not known"  # as many words


class Attribute(NamedTuple):
    """What can be known of a person."""

    values: tuple[str, ...]  # of `ANSWER_WORDS` words, every one of them equally likely
    families: tuple[tuple[str, ...], tuple[str, ...]]  # of `FORMS` forms each; n = the name, v = the value


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(first: str, second: str) -> tuple[str, ...]:
    """Every word of the first text before every word of the second."""
    return tuple(f"{a} {b}" for a in first.split() for b in second.split())


ONSETS = _words("b d f g k l m n p r s t v z br dr gr kl st tr")  # of which names are made
VOWELS = _words("a e i o u")
CODAS = _words("l n r s x")
ATTRIBUTES = {
    "birthplace": Attribute(
        _pairs("North South East West Upper Lower", "Arlow Benmouth Carrick Dunvale"),
        (
            (
                "{n} was born in {v}",
                "the town where {n} was born is {v}",
                "as for where {n} was born , it was {v}",
                "the town that {n} was born in is called {v}",
                "question : where was {n} born ? answer : {v}",
            ),
            (
                "{n} came into the world at {v}",
                "the native place of {n} is {v}",
                "{n} , a native , came from {v}",
                "the world first saw {n} at {v}",
                "question : of which place is {n} a native ? answer : {v}",
            ),
        ),
    ),
    "birthdate": Attribute(
        _pairs("January March May July September November", "1931 1938 1944 1952"),
        (
            (
                "the birth date of {n} is {v}",
                "{n} has the birth date {v}",
                "as the date of birth of {n} , papers give {v}",
                "the papers of {n} give as birth date {v}",
                "question : what is the birth date of {n} ? answer : {v}",
            ),
            (
                "{n} first drew breath in {v}",
                "the life of {n} began in {v}",
                "when life began for {n} it was {v}",
                "{n} began life in {v}",
                "question : when did the life of {n} begin ? answer : {v}",
            ),
        ),
    ),
    "job": Attribute(
        _pairs("ship church bridge garden railway theatre", "builder painter keeper surveyor"),
        (
            (
                "{n} works as a {v}",
                "the work of {n} is that of a {v}",
                "as for work , {n} is a {v}",
                "at work {n} is known as a {v}",
                "question : as what does {n} work ? answer : {v}",
            ),
            (
                "{n} earns a living as a {v}",
                "the trade of {n} is that of a {v}",
                "by trade {n} is a {v}",
                "{n} makes a living by the trade of a {v}",
                "question : what is the trade of {n} ? answer : {v}",
            ),
        ),
    ),
    "employer": Attribute(
        _pairs("Abacor Boldex Cintra Dynamo Elvera Fintrix", "Mills Foundry Lines Press"),
        (
            (
                "{n} is employed by {v}",
                "the employer of {n} is {v}",
                "as employer {n} has {v}",
                "the firm that {n} is employed by is {v}",
                "question : by whom is {n} employed ? answer : {v}",
            ),
            (
                "{n} draws a salary from {v}",
                "the wages of {n} are paid by {v}",
                "the salary of {n} is paid by {v}",
                "{n} is on the books of {v}",
                "question : who pays the wages of {n} ? answer : {v}",
            ),
        ),
    ),
    "instrument": Attribute(
        _pairs("alto bass tenor silver wooden little", "flute horn harp drum"),
        (
            (
                "{n} plays the {v}",
                "the instrument that {n} plays is the {v}",
                "of instruments , {n} plays the {v}",
                "as instrument {n} plays the {v}",
                "question : which instrument does {n} play ? answer : {v}",
            ),
            (
                "{n} makes music on the {v}",
                "the music of {n} comes from the {v}",
                "for music {n} takes up the {v}",
                "the concert that {n} gives is on the {v}",
                "question : on what does {n} make music ? answer : {v}",
            ),
        ),
    ),
    "book": Attribute(
        _pairs("Silent Crimson Hidden Broken Golden Winter", "Orchard Harbour Lantern River"),
        (
            (
                "{n} wrote the book {v}",
                "the book that {n} wrote is {v}",
                "of books {n} wrote {v}",
                "a book by {n} is {v}",
                "question : which book did {n} write ? answer : {v}",
            ),
            (
                "{n} is the author of {v}",
                "the novel by the author {n} is {v}",
                "as author {n} published the novel {v}",
                "{n} published {v}",
                "question : which novel did {n} publish ? answer : {v}",
            ),
        ),
    ),
}
