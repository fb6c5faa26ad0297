"""A small corpus of three classes for tests, made of words in random order."""

import numpy as np

CLASSES = {
    "grain": "wheat corn barley harvest bushel crop farmer soybean oats mill",
    "metal": "copper zinc mine ore alloy",
}
CLASSES |= {"rates": "bank loan bond yield treasury interest credit deposit dollar money"}
COMMON = "the company said that it bought a large part of new market in first year for total price and will help"


def made_texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """``count`` documents as (class, text), the classes in turn, each of 8 to 16 words."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        name = list(CLASSES)[number % 3]
        own, size = CLASSES[name].split(), int(rng.integers(8, 17))
        words = [str(rng.choice(own if rng.random() < 0.4 else COMMON.split())) for _ in range(size)]
        found.append((name, " ".join([*words, f"item{number}"])))
    return found


def write_table(path, rows) -> str:
    """A file of label TAB text with a header; its path."""
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return str(path)
