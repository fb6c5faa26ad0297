"""What peers.py times: influence by PyTorch libraries, and loops, on digits; without JAX and this library."""

from __future__ import annotations

import copy
import gc
import tempfile

TRAIN, QUERIES, L2, RIDGE = 500, 100, 1e-2, 1e-3
EPOCHS, BATCH, LR, DECAY, MODELS = 30, 64, 2e-3, 1e-2, 64


def digits():
    """All 1,797 standardised digits (n, 64) and labels, in the order of speed.py --influence."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(inputs))
    x = (inputs[order] - inputs.mean(axis=0)) / inputs.std()
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels[order])


def network(widths: tuple[int, ...] = ()):
    """Softmax regression, or a relu perceptron."""
    import torch.nn as nn

    sizes = (64, *widths)
    hidden = [part for a, b in zip(sizes, widths, strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 10))


def regression(x, y):
    """The softmax regression at its minimum, by L-BFGS."""
    import torch

    model = network()
    descent = torch.optim.LBFGS(model.parameters(), max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure():
        descent.zero_grad()
        decay = sum(p.square().sum() for p in model.parameters())
        loss = torch.nn.functional.cross_entropy(model(x), y) + L2 / 2 * decay
        loss.backward()
        return loss

    descent.step(closure)
    return model


def trained(x, y, rows):
    """One perceptron trained on some rows by a plain loop."""
    import torch

    model = network((64,))
    descent = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=True)
    for picked in order(rows):
        descent.zero_grad()
        torch.nn.functional.cross_entropy(model(x[picked]), y[picked]).backward()
        descent.step()
    return model


def order(rows):
    """Batches (steps, BATCH) of shuffled epochs, as many as EPOCHS epochs have."""
    import torch

    shuffled = torch.cat([rows[torch.randperm(len(rows))] for _ in range(EPOCHS + 1)])
    steps = round(EPOCHS * len(rows) / BATCH)
    return shuffled[: steps * BATCH].reshape(steps, BATCH)


def half(n: int):
    """A random half of the rows."""
    import torch

    return torch.randperm(n)[: n // 2]


def speed(threads: int, steps: int = 300, batch: int = 128, repeats: int = 5) -> float:
    """Samples a second of separate trainings of the digits perceptron of speed.py (64-128-128-10): median of 5.

    Batches are drawn at random from 2,048 rows, the optimizer is the fused AdamW; what is timed is the updates alone.
    """
    import statistics
    import time

    import torch

    torch.set_num_threads(threads)
    x, y = torch.randn(2048, 64), torch.randint(0, 10, (2048,))
    seconds = []
    for _ in range(repeats + 1):
        model = network((128, 128))
        descent = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=True)
        began = time.perf_counter()
        for _ in range(steps):
            picked = torch.randint(0, 2048, (batch,))
            descent.zero_grad()
            torch.nn.functional.cross_entropy(model(x[picked]), y[picked]).backward()
            descent.step()
        seconds.append(time.perf_counter() - began)
    return steps * batch / statistics.median(seconds[1:])


def ensemble(x, y):
    """All perceptrons at once: torch.func.vmap over stacked weights, one AdamW for all."""
    import torch

    models = [network((64,)) for _ in range(MODELS)]
    stacked, _ = torch.func.stack_module_state(models)
    skeleton = network((64,)).to("meta")
    batches = torch.stack([order(half(len(x))) for _ in range(MODELS)], dim=1)

    def loss(weights, inputs, labels):
        return torch.nn.functional.cross_entropy(torch.func.functional_call(skeleton, weights, (inputs,)), labels)

    descent = torch.optim.AdamW(stacked.values(), lr=LR, weight_decay=DECAY, fused=True)
    for picked in batches:
        descent.zero_grad()
        torch.func.vmap(loss)(stacked, x[picked], y[picked]).sum().backward()
        descent.step()
    return stacked


def kronfluence_ekfac(model, train, queries, frozen: bool = False):
    """Fit of the factors and all scores; ``frozen``: Python's collector passes over what was there before."""
    import torch.nn.functional as F
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Digits(Task):
        """Cross-entropy, with the labels drawn from the model where the library asks for it."""

        def compute_train_loss(self, batch, model, sample=False):
            logits = model(batch[0])
            drawn = logits.detach().softmax(-1).multinomial(1).flatten() if sample else batch[1]
            return F.cross_entropy(logits, drawn, reduction="sum")

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self):
            return None

    task = Digits()
    prepared = prepare_model(copy.deepcopy(model), task)

    def call():
        if frozen:
            gc.freeze()
        with tempfile.TemporaryDirectory() as folder:
            analyzer = Analyzer("digits", prepared, task, cpu=True, disable_tqdm=True, output_dir=folder, log_level=50)
            analyzer.fit_all_factors("ekfac", train, TRAIN, factor_args=FactorArguments("ekfac"))
            how = ScoreArguments(damping_factor=L2)
            analyzer.compute_pairwise_scores("scores", "ekfac", queries, train, QUERIES, TRAIN, score_args=how)
            scores = analyzer.load_pairwise_scores("scores")["all_modules"].T
        gc.unfreeze()
        return scores

    return call


def whole(data):
    """A loader of one batch."""
    import torch

    return torch.utils.data.DataLoader(data, batch_size=len(data))


def dattri_influence(kind: str, model, train, queries, **how):
    """Influence by one of dattri's attributors."""
    import torch
    from dattri import algorithm
    from dattri.task import AttributionTask

    def loss(weights, batch):
        return torch.nn.functional.cross_entropy(torch.func.functional_call(model, weights, batch[0]), batch[1])

    task = AttributionTask(loss, model, model.state_dict())

    def call():
        scorer = getattr(algorithm, kind)(task, **how)
        scorer.cache(whole(train))
        return scorer.attribute(whole(train), whole(queries)).detach()

    return call


def dattri_trak(model, train, queries):
    """TRAK with dattri's own number of columns, 512."""
    import torch
    from dattri.algorithm import TRAKAttributor
    from dattri.task import AttributionTask

    def log_p(weights, row):
        logits = torch.func.functional_call(model, weights, row[0][None])
        return -torch.nn.functional.cross_entropy(logits, row[1][None])

    def margin(weights, row):
        log_prob = log_p(weights, row)
        return log_prob - torch.log(-torch.expm1(log_prob))

    task = AttributionTask(margin, model, model.state_dict())

    def call():
        scorer = TRAKAttributor(task, lambda weights, row: log_p(weights, row).exp(), regularization=RIDGE)
        scorer.cache(whole(train))
        return scorer.attribute(whole(queries)).detach()

    return call


def traker_trak(model, train, queries, columns: int):
    """TRAK by its authors, float32; columns of the projection, 0 = none."""
    from trak import TRAKer
    from trak.projectors import NoOpProjector

    weights, count = model.state_dict(), sum(p.numel() for p in model.parameters())

    def call():
        with tempfile.TemporaryDirectory() as folder:
            how = {"proj_dim": columns} if columns else {"projector": NoOpProjector(count, 0, 0, "normal", "cpu")}
            scorer = TRAKer(model, "image_classification", TRAIN, folder, device="cpu", use_half_precision=False,
                            lambda_reg=RIDGE, logging_level=50, **how)  # fmt: skip
            scorer.load_checkpoint(weights, 0)
            scorer.featurize(train.tensors, num_samples=TRAIN)
            scorer.finalize_features()
            scorer.start_scoring_checkpoint("queries", weights, 0, QUERIES)
            scorer.score(queries.tensors, num_samples=QUERIES)
            return scorer.finalize_scores("queries")

    return call
