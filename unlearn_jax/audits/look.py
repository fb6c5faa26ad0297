"""What an audit keeps of each population of a study while its weights are there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.audits import probing
from unlearn_jax.audits.relearning import Relearning, relearned
from unlearn_jax.data.kinds import KINDS, Made
from unlearn_jax.evaluation.panels import SPLITS, EvalSplits, PopulationOutputs
from unlearn_jax.metrics.entangling import gradient_coupling
from unlearn_jax.metrics.representation import weight_distance
from unlearn_jax.population.evaluate import evaluate, predict
from unlearn_jax.population.run import Stored, chunk_width
from unlearn_jax.studies.populations import EvaluatedPopulation, Level
from unlearn_jax.studies.setup import Setup
from unlearn_jax.trees import join_shared, split_shared, take_members
from unlearn_jax.types import Model, Variables

AUDITED = 1000  # most examples of rest and of test, a fixed random subset
FEATURED = 8  # members, of the first request, whose features and gradients are taken
MAX_GRADIENTS = 50_000_000  # numbers in the gradients of single examples of a member
NOISE = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4)  # root mean square a pixel value; times sqrt(values) = Euclidean radius


class Look:
    """Visits each population while its weights are there, and keeps what the battery needs.

    Holds the weights of the originals, the oracles and the retrained models, with which the others are compared.
    """

    def __init__(self, setup: Setup, level: Level, relearning: Relearning):
        self.setup, self.level, self.relearning = setup, level, relearning
        self.panels: list[PopulationOutputs] = []
        self.about: dict[str, np.ndarray] = {}
        self._kept: dict[str, Variables] = {}
        self._columns = [self._splits(rows) for rows in level.rows]
        self.ground = [self._ground(columns) for columns in self._columns]

    def _splits(self, rows) -> dict[str, np.ndarray]:
        """Stored rows of each split that a request has, at most `AUDITED` of rest and test."""
        rows_of = {}
        for split in SPLITS:
            at, most = np.sort(getattr(rows, split)), AUDITED
            if split in ("rest", "test") and len(at) > most:
                at = np.sort(np.random.default_rng([self.setup.config.seed, 9]).choice(at, most, replace=False))
            if len(at):
                rows_of[split] = at
        return rows_of

    def _ground(self, columns: dict[str, np.ndarray]) -> EvalSplits:
        """Labels, clusters and distances of one request's examples."""
        bench, alone = self.setup.bench, ("rest", "test")
        labels = {split: self._truth(at) for split, at in columns.items()}
        clusters = {split: at if split in alone else bench.cluster[at] for split, at in columns.items()}
        embed = KINDS[bench.kind].embedding
        every = np.concatenate(list(columns.values()))
        texts = None if bench.texts is None else bench.texts[every]
        vectors = embed(Made(bench.inputs[every], bench.targets[every], texts), slice(None))
        stops = np.cumsum([0, *(len(at) for at in columns.values())])
        parts = {split: slice(*ends) for split, ends in zip(columns, zip(stops[:-1], stops[1:]))}
        likeness = _cosines(vectors, parts["forget"])
        nearest = {split: 1.0 - likeness[at].max(axis=1) for split, at in parts.items()}
        return EvalSplits(labels, clusters, nearest)

    def _truth(self, rows: np.ndarray) -> np.ndarray:
        """Which of the possible answers is true: the class, or the number of the candidate."""
        setup, candidates = self.setup, self.setup.problem.task.candidates
        if candidates is None:
            return setup.bench.labels[rows].astype(np.int64)
        batch = probing.batch_of(setup.bench.inputs[rows], setup.bench.targets[rows])
        return np.asarray(candidates.truth(batch)).astype(np.int64)

    def visit(self, outcome: EvaluatedPopulation, model: Model) -> None:
        """Measure one population."""
        variables, is_standard = outcome.population.variables, model is self.setup.problem.model
        if outcome.name in ("original", "retrain", "oracle") and not outcome.setting:
            self._kept[outcome.name] = variables
        serve = [np.flatnonzero(self.level.request_of == r) for r in range(len(self._columns))]
        logits = [self._answers(model, take_members(variables, mine), r) for r, mine in enumerate(serve)]
        lost = ~np.all(np.isfinite(outcome.scores.margin), axis=1)  # to finite margins too (`divergence`)
        for mine, splits in zip(serve, logits):
            for answers in splits.values():
                answers[lost[mine]] = np.nan
        measured = self._measured(outcome, variables) if is_standard else {}
        self.panels.append(
            PopulationOutputs(outcome.method, outcome.setting, outcome.role, logits, measured, outcome.remedy)
        )
        if outcome.name == "original":
            self.about |= self._of_the_study()

    def _answers(self, model: Model, variables: Variables, request: int) -> dict[str, np.ndarray]:
        """Answers of members that serve a request on its examples, by split."""
        setup, columns = self.setup, self._columns[request]
        at = np.concatenate(list(columns.values()))
        data = Stored(setup.stored.inputs[at], setup.stored.targets[at])
        members = len(jax.tree.leaves(split_shared(variables)[0])[0])
        options = setup.options
        how = {"width": chunk_width(members, options), "axis": options.axis, "data_devices": options.data_devices}
        if setup.problem.task.candidates is None:
            outputs = predict(model, variables, data, **how)
        else:
            decoder = setup.decoder if model is setup.problem.model else None
            outputs = evaluate(model, setup.problem.task, variables, data, decoder=decoder, **how).scores
        stops = np.cumsum([len(rows) for rows in columns.values()])[:-1]
        return dict(zip(columns, np.split(np.asarray(outputs, np.float32), stops, axis=1)))

    def _measured(self, outcome: EvaluatedPopulation, variables: Variables) -> dict[str, np.ndarray]:
        """Relearning, perturbed images, features and weights of one population."""
        setup, measures = self.setup, {}
        rows = [self.level.rows[r] for r in self.level.request_of]
        requested, similar = [r.requested for r in rows], [r.similar for r in rows]
        for name, benign in (("relearning", False), ("benign_relearning", True)):
            if benign and not min(map(len, similar)):
                continue
            stay = similar if min(map(len, similar)) else [r.rest for r in rows]
            measures[name] = relearned(
                setup.problem, setup.stored, variables, requested, stay, self.relearning,
                benign=benign, seed=setup.config.seed, options=setup.options,
            )  # fmt: skip
        if setup.bench.kind == "image" and setup.config.requests == 1:
            measures |= self._perturbed(variables)
        shown = self._columns[0]
        at = np.concatenate([shown[s] for s in shown])
        first = take_members(variables, np.flatnonzero(self.level.request_of == 0)[:FEATURED])
        measures["features"] = probing.member_features(setup.problem, first, setup.bench.inputs[at])
        start = self._kept.get("original")
        if start is not None and outcome.name != "original":
            for reference in ("original", "retrain"):
                other = self._kept.get(reference)
                if other is not None:
                    measures |= {f"weights_from_{reference}/{k}": v for k, v in moved(variables, other).items()}
        return measures

    def _perturbed(self, variables: Variables) -> dict[str, np.ndarray]:
        """Probability of the targets' labels at noisy and at targeted images."""
        setup, measures = self.setup, {}
        at = self._columns[0]["forget"]
        batch = probing.batch_of(setup.bench.inputs[at], setup.bench.targets[at])
        radii = np.asarray(NOISE) * np.sqrt(np.prod(batch.inputs.shape[1:]))
        self.about["noise_radii"] = radii
        measures["noisy"] = probing.noisy_recognition(setup.problem, variables, batch, radii, seed=setup.config.seed)
        others = [self._kept[name] for name in ("retrain", "oracle") if name in self._kept]
        if len(others) == 2:
            probabilities = probing.targeted_recognition(setup.problem, variables, others, batch, radii)
            measures |= dict(zip(("targeted", "targeted_retrain", "targeted_oracle"), probabilities))
        return measures

    def _of_the_study(self) -> dict[str, np.ndarray]:
        """How the originals' gradients on the targets point along those on S and rest; untrained models' answers."""
        setup, original = self.setup, self._kept["original"]
        columns, gradients = self._columns[0], {}
        for split in ("forget", "similar", "rest"):
            if split in columns:
                at = columns[split]
                batch = probing.batch_of(setup.bench.inputs[at], setup.bench.targets[at])
                gradients[split] = probing.flat_gradients(setup.problem, original, batch, members=FEATURED)
        total = lambda a, b: gradient_coupling(a[None], b[None]).total
        measures = {
            f"coupling/{split}": np.asarray([total(*pair) for pair in zip(gradients["forget"], gradients[split])])
            for split in gradients
            if split != "forget"
        }
        measures |= self._neighbours(original)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(setup.config.seed), 31), FEATURED)
        example = jnp.zeros(setup.problem.example.shape, setup.problem.example.dtype)
        drawn = jax.jit(jax.vmap(lambda key: setup.problem.model.init(key, example)))(keys)
        fresh = jax.tree.map(np.asarray, drawn)
        untrained = join_shared(fresh, split_shared(original)[1])
        return measures | {"untrained": self._answers(setup.problem.model, untrained, 0)["forget"]}

    def _neighbours(self, original: Variables) -> dict[str, np.ndarray]:
        """Cosines of single examples' gradients: targets with their own similar samples and with those of others."""
        setup, columns = self.setup, self._columns[0]
        weights = sum(x[0].size for x in jax.tree.leaves(original["params"]))
        count = len(columns["forget"]) + len(columns.get("similar", ()))
        if "similar" not in columns or weights * count > MAX_GRADIENTS:
            return {}
        rows = [columns["forget"], columns["similar"]]
        same_cluster = setup.bench.cluster[rows[0]][:, None] == setup.bench.cluster[rows[1]][None, :]
        batches = [probing.batch_of(setup.bench.inputs[at], setup.bench.targets[at]) for at in rows]
        cosines = {"own": [], "other": []}
        assert setup.config.members is not None
        for member in range(min(FEATURED, setup.config.members)):
            one = take_members(original, slice(member, member + 1))
            sides = [probing.example_gradients(setup.problem, one, batch) for batch in batches]
            pairs = gradient_coupling(*sides).pairs
            cosines["own"].append(np.nanmean(pairs[same_cluster]))
            cosines["other"].append(np.nanmean(pairs[~same_cluster]) if (~same_cluster).any() else np.nan)
        return {f"coupling/{kind} cluster/similar": np.asarray(values) for kind, values in cosines.items()}


def _cosines(vectors, to: slice) -> np.ndarray:
    """Cosine of every row to some of the rows, (n, m); vectors may be sparse, as those of words are."""
    from sklearn.preprocessing import normalize

    unit = normalize(vectors.astype(np.float64))
    product = unit @ unit[to].T
    return np.asarray(product.toarray() if hasattr(product, "toarray") else product)


def moved(variables: Variables, reference: Variables) -> dict[str, np.ndarray]:
    """Relative Euclidean distance of each layer's weights from those of the same member of a reference; (N,) each."""
    return weight_distance(probing.layers(variables), probing.layers(reference))
