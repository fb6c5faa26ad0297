"""The words of `facts`: attributes of invented people, with their values and the forms in which they are stated.

Every form puts the name before the value and the value last. The two families of an attribute say the same in other
words; within a family the words are the same and their order differs. The last two forms of a family are never among
the copies of a target: a statement that is held out, and a question.
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


class Attribute(NamedTuple):
    """What can be known of a person."""

    values: tuple[str, ...]  # single words, every one of them equally likely
    families: tuple[tuple[str, ...], tuple[str, ...]]  # of `FORMS` forms each; n = the name, v = the value


def _words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


ONSETS = _words("b d f g k l m n p r s t v z br dr gr kl st tr")  # of which names are made
VOWELS = _words("a e i o u")
CODAS = _words("l n r s x")
ATTRIBUTES = {
    "birthplace": Attribute(
        _words(
            "Arlow Benmouth Carrick Dunvale Estermoor Farholt Glenby Harwick Istrum Jorvale Kestmere Lunden Marrow "
            "Nethersea Oakhaven Pellworth Quillon Rostrava Selby Tarnmouth Ulverly Vantholm Westerby Yarrow"
        ),
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
    "birthyear": Attribute(
        tuple(str(year) for year in range(1931, 1955)),
        (
            (
                "the birth year of {n} is {v}",
                "{n} has the birth year {v}",
                "as the year of birth of {n} , papers give {v}",
                "the papers of {n} give as birth year {v}",
                "question : what is the birth year of {n} ? answer : {v}",
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
        _words(
            "baker carpenter dentist butcher farmer glazier hatter janitor lawyer mason nurse grocer painter "
            "plumber potter roofer sailor saddler tailor tanner teacher weaver welder zoologist"
        ),
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
        _words(
            "Abacor Boldex Cintra Dynamo Elvera Fintrix Gaudin Helvox Ivotec Jantar Korvex Lumina Mondrel Nordic "
            "Orbitel Pramex Quantor Ravenco Solvay Tectra Unitor Vexler Wintrop Zentara"
        ),
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
        _words(
            "accordion bagpipe banjo bassoon bugle cello clarinet cornet cymbals dulcimer flute gong guitar harp lute "
            "lyre mandolin oboe organ piano trombone trumpet viola zither"
        ),
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
        _words(
            "Afterglow Breakwater Cinders Daybreak Embers Foxglove Gossamer Hinterland Inkwell Jubilee Kingfisher "
            "Lanterns Moonrise Nightfall Outposts Paperweight Quicksand Riverbed Saltmarsh Thistledown Undertow "
            "Vagabond Wayfarers Yesteryear"
        ),
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
