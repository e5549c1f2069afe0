"""Tells malignant from benign tumours by how their cells look: load, train, evaluate, each in a container of its own.

Run it with `python train.py`. This machine needs neither pandas nor scikit-learn: they are in the image only, so they
are imported by the steps that use them, and up here for the type checker alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from longshore import pipeline, step
from longshore.config import DockerSettings

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier


@step
def load() -> tuple[Annotated[pd.DataFrame, "training"], Annotated[pd.DataFrame, "held_out"]]:
    """The breast cancer data set that scikit-learn ships, split into what is learnt from and what is not."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    samples = load_breast_cancer(as_frame=True).frame
    training, held_out = train_test_split(samples, test_size=0.3, stratify=samples["target"], random_state=0)
    print(f"{len(training)} samples to learn from, {len(held_out)} held out")
    return training, held_out


@step
def train(data: pd.DataFrame, depth: int = 3) -> Annotated[RandomForestClassifier, "model"]:
    """A random forest."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=200, max_depth=depth, random_state=0)
    model.fit(data.drop(columns="target"), data["target"])
    print(f"trained {model.n_estimators} trees of depth {depth}")
    return model


@step
def evaluate(model: RandomForestClassifier, data: pd.DataFrame) -> Annotated[float, "score"]:
    """The share of the held-out samples that the model names correctly."""
    score = float(model.score(data.drop(columns="target"), data["target"]))
    print(f"score: {score:.3f}")
    return score


@pipeline(settings={"docker": DockerSettings(requirements=["pandas==2.2.3", "scikit-learn==1.5.2"])})
def my_pipeline(depth: int = 3) -> None:
    """Connects the steps: this function runs here, and the steps that it calls run later, in containers."""
    training, held_out = load()
    model = train(training, depth=depth)
    evaluate(model, held_out)


if __name__ == "__main__":
    my_pipeline()
