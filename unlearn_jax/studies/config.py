"""The fields of a study's configuration, in the groups that a command line's help shows, with defaults."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_jax.types import Recipe


@dataclass(frozen=True)
class Data:
    """What is trained on, and which network."""

    benchmark: str = ""
    """a named recipe of data, targets and similar samples (docs/datasheets): fills dataset, similarity, copies, targets
    where these are left open"""
    dataset: str = ""
    """registered data set, or the path of a .npz file with x_train, y_train, x_test, y_test, or of a table of texts
    (.csv, .tsv, .tab, .txt, .parquet) with columns text and label; empty = digits, or the benchmark's"""
    model: str = ""
    """registered model; empty = the data set's own (digits: mlp, mnist and fashion_mnist: convnet, cifar: resnet9,
    facts: decoder, texts: mlp)"""
    model_options: tuple[str, ...] = ()
    """options of the model as NAME=VALUE, such as width=16 or widths=64,64"""
    features: str = ""
    """what a model is given of texts: tfidf (projected to 256 values), minilm (a frozen embedding), tokens or wordpiece
    (MiniLM's own tokens); empty = tokens for the encoder, wordpiece for minilm, else tfidf"""
    vocabulary: int = 0
    """most terms (tfidf) or token numbers (tokens) of texts; 0 = 4,000 or 8,000"""
    context: int = 0
    """tokens after which a text is cut; 0 = 64 (tokens) or 256 (minilm)"""
    tokenizer: str = ""
    """for features=tokens: byte_pair (trained on the texts), or a tokenizer.json or its folder; empty = words"""
    lora: int = 0
    """rank of the adapters that members train on a frozen base, which knows no target; 0 = train all weights"""
    train_size: int | None = None
    """stratified subset of the training examples; 0 = all; by default all (large corpora: 8,000)"""
    test_size: int | None = None
    """stratified subset of the test examples; 0 = all; by default all (large corpora: 2,000)"""


@dataclass(frozen=True)
class Clusters:
    """Who is asked to be forgotten, and what similar samples stay; copies and gamma are axes, several with commas."""

    similarity: str = ""
    """level of the constructed copies: exact, near or far; near:0.5 has edits half as strong; facts: exact, near,
    paraphrase or semantic; images and texts besides: natural, the nearest training examples in place of copies
    (natural:0.6 at a cosine of .6 or more, else .5 of texts, .9 of images, cifar10 .95, fashion_mnist .99); empty =
    near, or the benchmark's"""
    copies: str = ""
    """similar samples made of each target, several with commas; empty = 0,1,4,8 (facts, encoder: 0,1,4;
    natural: 0,1,2)"""
    gamma: str = ""
    """share of each cluster that the request names, targets included, several with commas; empty = the targets alone"""
    targets: str = ""
    """who is asked to be forgotten: random, class (all of one class), whole_class (a whole class), atypical (least sure
    under pilot models that never saw them), distant (far from their class mean), contested (their nearest training
    examples are of other classes) or person (facts: all that is said of whole people, at least num_targets facts);
    empty = atypical (facts: random)"""
    num_targets: int = 30
    """targets in each request; whole_class takes what the class has"""
    requests: int = 1
    """disjoint requests, among which the members are divided"""
    skip_requests: int = 0
    """requests whose targets are passed over first, so that settings can be tuned on other targets than are reported"""


@dataclass(frozen=True)
class Methods:
    """What is run from the originals, with which settings."""

    methods: str = "core"
    """core, all, none (the references alone), or names with commas"""
    remedies: str = ""
    """wrappers around every method that is run, besides the method alone: all, none, or names with commas; they search
    for similar samples or change how the method treats them"""
    hp: tuple[str, ...] = ()
    """hyperparameters as METHOD.NAME=VALUE[,VALUE...], settings of remedies as REMEDY.NAME=VALUE[,VALUE...]; several
    values of numeric ones of a method run as one population"""
    presets: str = ""
    """a preset file, as unlearn-jax sweep writes them, or the name of one that is shipped: settings of methods where
    hp says nothing (docs/sweeps.md)"""
    scale: str = ""
    """whose default hyperparameters: small, small_conv, small_text, small_transformer, cifar or language; empty = by
    data set and network"""
    budget: float = 0.0
    """gradient evaluations a member for every iterative method, so that methods compare at equal cost; 0 = their own"""


@dataclass(frozen=True)
class Training:
    """How every reference is trained from scratch."""

    steps: int = 0
    """updates of every training from scratch; 0 = the data set's preset"""
    equal: str = "steps"
    """what all trainings from scratch have in common: steps, or epochs (fewer updates on fewer examples)"""
    batch: int = 0
    """batch size of every training from scratch; 0 = the data set's preset"""
    lr: float = 0.0
    """learning rate of every training from scratch; 0 = the data set's preset"""
    augment: str = ""
    """of images: none, crop or crop_flip; empty = the data set's preset"""
    dtype: str = ""
    """float32 or bfloat16 compute; empty = float32 on a CPU, bfloat16 on an accelerator for convolutional models"""
    dedup_threshold: float = 0.0
    """cosine (of pixels, or TF-IDF of words) from which the dedup reference calls two examples duplicates; 0 = the
    data set's preset"""


@dataclass(frozen=True)
class Precision:
    """How precisely it is measured."""

    members: int | None = None
    """models in each population; by default 32 (facts, encoder: 8)"""
    seed: int = 0
    """what all randomness follows from: targets, copies, networks and their data order"""
    resamples: int = 2000
    """draws behind each interval"""
    metrics: str = ""
    """further metrics that need margins and right answers alone, with commas (klom,energy_distance,...; all), besides
    those that every study has (docs/metrics.md)"""


GROUPS = (Data, Clusters, Methods, Training, Precision)


@dataclass(frozen=True)
class StudyConfig(Precision, Training, Methods, Clusters, Data):
    """What is measured, on what, how precisely: the fields of all groups. Commas mean several.

    Example:
        >>> config = StudyConfig(copies="0,4", methods="scrub", hp=("scrub.alpha=.1,.5",), members=16)
        >>> config.copies, config.similarity  # empty: the data set's own
        ('0,4', '')
    """


class Preset:
    """Fields of `StudyConfig` where a configuration and the data set leave them open; later ones win."""

    STUDY = {"similarity": "near", "copies": "0,1,4,8", "targets": "atypical", "members": 32}
    STUDY_BY_MODEL = {
        "encoder": {"copies": "0,1,4", "members": 8},
        "minilm": {"copies": "0,1,4", "targets": "random", "members": 8},
    }
    NATURAL = {"copies": "0,1,2"}  # more neighbours have the plainest documents alone, on which models hardly differ
    BY_TEXT_MODEL = {
        "encoder": Recipe(lr=1e-3, steps=600, batch=32),
        "minilm": Recipe(lr=1e-4, steps=300, batch=32),
    }
