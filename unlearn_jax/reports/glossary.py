"""The words of the page, each with a short definition."""

GLOSSARY = (
    ("Target", "a training sample whose deletion is asked for. The request F names the targets."),
    ("Similar",
     "what stays of the targets' clusters: the copies of a target that were not named in the request. “Rest” is "
     "every other training sample; “test” was held out."),
    ("Original",
     "models trained on everything. Every unlearning method starts from these but the protocols (SISA, amnesiac,"
     " Langevin), which prescribe how the original is trained and train their own."),
    ("Retrain", "models trained from scratch without the request: the literature's gold standard."),
    ("Oracle",
     "models trained from scratch without the targets and without all of their similar samples. For constructed "
     "copies it is free of the targets' influence."),
    ("Placebo",
     "like retrain, and as many random samples of the same classes are dropped as there are similar samples. If "
     "it agrees with retrain, similarity carries the effect, not the size of the training set."),
    ("Dedup",
     "like retrain, and then a detector that does not know the clusters keeps one of each group of near "
     "duplicates it finds."),
    ("Margin", "log-odds of the true label, in nats: how sure the model is of the right answer."),
    ("Residual influence",
     "(margin − oracle's margin) / (original's margin − oracle's margin), a ratio of means over the targets. 1 ="
     " untouched, 0 = gone, below 0 = over-forgotten."),
    ("Residual distance",
     "the unsigned partner: root of the mean squared difference to the oracle, target by target, over the "
     "original's. Too much forgetting on some targets cannot cancel too little on others. Methods are ranked by "
     "it; 0 is best."),
    ("Excess price",
     "accuracy of the oracle minus accuracy of the method, in points; positive = worse than the oracle. The "
     "oracle, which never saw the similar samples, loses accuracy on them; a method that loses less has a "
     "negative excess price there."),
    ("Remedy",
     "a wrapper around any method that knows of similar samples: it searches for them in the training set, or "
     "changes how the method treats the request. METHOD + REMEDY is the method inside it."),
    ("Frontier",
     "the methods of practice that no other beats in both residual distance and price (the larger of the excess "
     "prices on rest and test). Its share of the draws says how firm a place is."),
    ("Null band",
     "how far the mean margins of two populations lie apart that differ in nothing but their seeds (95%, by "
     "Student's t from the oracle's members). A residual inside it cannot be told from none."),
    ("Interval",
     "95% interval (expanded percentile) over two-way resamples of whole clusters and of members; differences "
     "and ranks share all draws. Hover over a figure in the table for the interval over members alone."),
    ("Not identifiable",
     "the original and the oracle differ too little on the targets (under three null bands), or there are fewer "
     "than 8 members in a request, so that a ratio to their difference means nothing."),
    ("Gradient evaluation",
     "forward and backward pass on one example; forward only counts 1/3. Counted apart on the request and on "
     "retained data."),
)  # fmt: skip
