"""The peers train what the study trains, and are judged by what they took. No time is asserted."""

import types

import pytest
import torch

from bench import idioms
from bench.measure import Measurement
from bench.peers import optuna_idiom, ray_idiom, task
from bench.spaces.grid import STUDY
from tests.needs import need_fashion_mnist
from trainables.config import TrialConfig
from trainables.data import load_dataset
from trainables.loop import draw_split, load_resident, run_epoch, start_training
from trainables.losses import build_loss

EPOCHS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    need_fashion_mnist()
    return idioms.lay_out(tmp_path_factory.mktemp("data"))


def configs():
    return {arm.name: TrialConfig.from_flat({**arm.fixed, "seed": 0}) for arm in STUDY.arms}


def test_the_grid_is_that_of_the_peers():
    assert {(config.optimizer.name, config.loss.name) for config in configs().values()} == {
        (optimizer, loss) for optimizer in task.OPTIMIZERS for loss in task.LOSSES
    }
    for config in configs().values():
        assert config.optimizer.params["learning_rate"] == task.LEARNING_RATES[config.optimizer.name]
        assert (config.batch_size, config.epochs, config.reduction) == (task.BATCH_SIZE, 20, "mean")
        (ours, theirs) = (count(build(config)), count(task.build_model("fashion-mnist")))
        assert ours == theirs


def build(config):
    from trainables.models import build_model

    return build_model(config.model, (1, 28, 28), 10)


def count(model):
    return [tuple(parameter.shape) for parameter in model.parameters()]


@pytest.mark.parametrize("arm", STUDY.arms, ids=lambda arm: arm.name)
def test_losses_and_gradients_are_those_of_the_study(arm):
    config = configs()[arm.name]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 10, generator=generator, requires_grad=True)
    labels = torch.randint(0, 10, (64,), generator=generator)
    ours = build_loss(config.loss, num_classes=10)(logits, labels).mean()
    theirs = task.compute_loss(config.loss.name, logits, labels)
    scale = (ours / theirs).item()  # per example: a sum over classes, or their mean
    assert scale == pytest.approx(round(scale), rel=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits, retain_graph=True)[0],
        torch.autograd.grad(theirs, logits)[0] * scale,
        rtol=1e-3,
        atol=1e-7,
    )


def test_data_are_those_of_the_study(folder):
    train, val, test = task.load_data("fashion-mnist", folder)
    assert (len(train), len(val), len(test)) == (50_000, 10_000, 10_000)
    images, labels = zip(*(test[index] for index in range(100)), strict=True)
    dataset = load_dataset("fashion-mnist")
    assert list(labels) == dataset.test_labels[:100].tolist()
    pixels = torch.stack(images) * 0.3530 + 0.2860
    torch.testing.assert_close(pixels * 255, torch.from_numpy(dataset.test_images[:100]).float(), rtol=0, atol=0.01)


@pytest.mark.parametrize("peer", ["ray_idiom", "optuna_idiom"])
def test_a_peer_comes_as_far_as_the_study_on_the_digits(peer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = train_peer(peer, monkeypatch)
    assert len(rows) == EPOCHS
    config = TrialConfig.from_flat({**STUDY.arm("adam-cross_entropy").fixed, "epochs": EPOCHS, "seed": 0})
    dataset = load_dataset("digits")
    data = load_resident(dataset, torch.device("cpu"))
    state = start_training(config, data, draw_split(data.labels, 0, 1.0))
    ours = [run_epoch(state, data) for _ in range(EPOCHS)]
    # Two splits of 300 validation images differ by some points.
    assert rows[-1]["val_accuracy"] == pytest.approx(ours[-1]["val_accuracy"], abs=0.12)
    beside = {"learning_rate", "diverged"}
    assert set(ours[0]) - beside <= set(rows[0])
    assert any(key.startswith("test_") for key in rows[-1])


def train_peer(peer, monkeypatch):
    rows = []
    if peer == "ray_idiom":
        monkeypatch.setattr(ray_idiom.tune, "report", rows.append)
        how = {"loss": "cross_entropy", "optimizer": "adam", "learning_rate": None}
        ray_idiom.train({"dataset": "digits", "data": "", "epochs": EPOCHS, **how})
        return rows
    fixed = types.SimpleNamespace(
        number=0,
        params={},
        suggest_categorical=lambda name, values: "cross_entropy" if name == "loss" else "adam",
        report=lambda value, step: None,
    )
    monkeypatch.setattr(optuna_idiom.mlflow, "log_metrics", lambda row, step: rows.append(row))
    for name in ("start_run", "log_params"):
        monkeypatch.setattr(optuna_idiom.mlflow, name, _Nothing())
    arguments = types.SimpleNamespace(dataset="digits", data="", epochs=EPOCHS, random_trials=None)
    optuna_idiom.build_objective(arguments)(fixed)
    return rows


class _Nothing:
    def __call__(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_the_ratio_is_the_median_of_the_rounds_own():
    name = "grid, 5 epochs"
    seconds = {"study": (10.0, 20.0, 10.0), "ray_idiom": (50.0, 60.0, 30.0), "optuna_idiom": (40.0, 80.0, 90.0)}
    found = [
        Measurement(f"{name}: {who}", number, value, "s")
        for who, values in seconds.items()
        for number, value in enumerate(values, 1)
    ]
    ray, optuna = idioms.judge(name, found)
    assert (ray.ratio, ray.holds, ray.ours, ray.reference) == (3.0, False, 10.0, 50.0)
    assert (optuna.ratio, optuna.holds) == (4.0, True)
