"""Words that may stand for one another: a small table of our own, or the synsets of a WordNet folder."""

from __future__ import annotations

from pathlib import Path

from unlearn_jax.errors import InputError

_GROUPS = """
big large, small little, quick fast rapid, quickly rapidly, begin start, begins starts, began started, beginning
starting, end finish, ended finished, buy purchase, buys purchases, bought purchased, buying purchasing, help
assist aid, helped assisted aided, show display, shows displays, showed displayed, said stated, says states,
rise increase climb, rises increases climbs, rose increased climbed, rising increasing climbing, fall drop
decline, falls drops declines, fell dropped declined, falling dropping declining, company firm, companies firms,
house home, houses homes, car automobile, cars automobiles, doctor physician, doctors physicians, child kid,
children kids, picture image, pictures images, film movie, films movies, street road, streets roads, nation
country, nations countries, worker employee, workers employees, chief main, important significant, difficult
hard, easy simple, rich wealthy, happy glad, sad unhappy, angry mad, smart clever, strange odd, quiet silent,
correct accurate, wrong incorrect, whole entire, complete full, usual normal, usually normally, often
frequently, rarely seldom, almost nearly, maybe perhaps, probably likely, huge enormous, great excellent, good
fine, bad poor, awful terrible, new recent, beautiful lovely, expensive costly, necessary essential, allow
permit, allows permits, allowed permitted, get obtain, gets obtains, got obtained, give provide, gives provides,
gave provided, keep retain, kept retained, make create, makes creates, made created, need require, needs
requires, needed required, try attempt, tries attempts, tried attempted, use employ, uses employs, used
employed, using employing, want desire, wants desires, wanted desired, choose select, chose selected, chosen
selected, build construct, built constructed, repair fix, repaired fixed, answer reply, answered replied, ask
inquire, asked inquired, think believe, thinks believes, thought believed, watch observe, watched observed, find
discover, finds discovers, found discovered, hide conceal, hid concealed, happen occur, happens occurs, happened
occurred, reduce cut, reduced cut, reducing cutting, raise increase, expand grow, expanded grew, total sum,
amount quantity, amounts quantities, part portion, parts portions, kind sort type, kinds sorts types, way
manner, ways manners, place spot, places spots, area region, areas regions, problem trouble, problems troubles,
error mistake, errors mistakes, idea notion, ideas notions, goal aim, goals aims, plan scheme, plans schemes,
result outcome, results outcomes, cause reason, causes reasons, method approach, methods approaches, effect
impact, effects impacts, chance opportunity, chances opportunities, profit gain, profits gains, loss deficit,
losses deficits, income revenue, price cost, prices costs, agreement deal, agreements deals, agreed consented,
talks negotiations, meeting session, meetings sessions, statement announcement, announced declared, announce
declare, reported disclosed, expected anticipated, expects anticipates, expect anticipate, proposed suggested,
proposal suggestion, propose suggest, official formal, annual yearly, current present, currently presently,
previous prior, later afterwards, after following, approximately roughly about, sharply steeply, slightly
somewhat, strong powerful, additional extra further, several various, many numerous, enough sufficient, but
however, although though, while whereas, therefore thus, people persons, friend companion, friends companions,
leader head, member participant, members participants, author writer, authors writers, customer client,
customers clients, shop store, shops stores, city town, cities towns, ship vessel, ships vessels, war conflict,
wars conflicts, law statute, laws statutes, rule regulation, rules regulations, money cash, trip journey, trips
journeys, story tale, stories tales, sick ill, stone rock, stones rocks, forest woods, sea ocean, throw toss,
threw tossed, jump leap, jumped leaped, cry weep, cried wept, stop halt, stops halts, stopped halted
"""  # words that may stand for one another


def builtin_synonyms() -> dict[str, tuple[str, ...]]:
    """Synonyms of some common English words, in small letters and in the same form (``bought``, ``purchased``)."""
    synonyms: dict[str, tuple[str, ...]] = {}
    for group in map(str.split, _GROUPS.split(",")):
        for word in group:
            synonyms[word] = synonyms.get(word, ()) + tuple(other for other in group if other != word)
    return synonyms


def wordnet_synonyms(folder: str | Path) -> dict[str, tuple[str, ...]]:
    """Synonyms from WordNet: single words that share a word's most frequent meaning, of words in their basic form.

    Words of one or two letters, which are mostly abbreviations there, and words that WordNet has not seen in texts are
    left out. Inflected words have none; ``wordnet_synonyms(folder) | builtin_synonyms()`` adds some.

    Args:
        folder: with WordNet's ``index.*`` and ``data.*`` files (Debian's wordnet-base: /usr/share/wordnet).

    Raises:
        InputError: a missing file, or one that is not WordNet's.
    """
    best: dict[str, tuple[int, tuple[str, ...]]] = {}
    for kind in ("noun", "verb", "adj", "adv"):
        paths = [Path(folder).expanduser() / f"{file}.{kind}" for file in ("data", "index")]
        try:
            data, index = (_fields(path) for path in paths)
            members = {row[0]: row[4 : 4 + 2 * int(row[3], 16) : 2] for row in data}
            for row in index:
                senses = int(row[2])
                names = (name.partition("(")[0] for name in members[row[-senses]])  # adjectives have marks like (a)
                others = tuple(name for name in names if _plain_word(name) and name != row[0])
                often = int(row[-senses - 1])
                if _plain_word(row[0]) and often > best.get(row[0], (0,))[0]:
                    best[row[0]] = often, others
        except FileNotFoundError as error:
            problem = f"there is no WordNet file '{error.filename}'"
            raise InputError(f"{problem}: run `apt-get install wordnet-base`, or give its folder.") from None
        except (OSError, ValueError, LookupError) as error:
            raise InputError(f"'{paths[0]}' and '{paths[1]}' are not WordNet's: get a fresh copy of them.") from error
    return {word: others for word, (_, others) in best.items() if others}


def _plain_word(word: str) -> bool:
    """Whether it is one word in small letters, and no abbreviation."""
    return len(word) > 2 and word.isalpha() and word.islower()


def _fields(path: Path) -> list[list[str]]:
    """The fields of a WordNet file's lines, up to the gloss, without the licence."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.partition(" | ")[0].split() for line in lines if line and not line.startswith("  ")]
