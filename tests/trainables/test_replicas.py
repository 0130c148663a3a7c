"""Replicas trained as one model compute what separate trials do; what cannot be batched is refused."""

import contextlib
import dataclasses
import math

import pytest
import torch

from trainables import replica_trials, replicas
from trainables.activations import ACTIVATIONS
from trainables.config import InputError, TrialConfig
from trainables.data import load_dataset
from trainables.evaluation import corrupt_test_images, final_evaluation
from trainables.graphed import GraphedStep
from trainables.loop import load_resident, run_epoch, start_training
from trainables.losses import LOSSES
from trainables.optimizers import OPTIMIZERS
from trainables.replica_trials import ReplicaTrials, seeded, train_replicas
from trainables.replicas import run_replicas_epoch, start_replicas
from trainables.stacked_optimizers import put_on_device

FLAT = {
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.05,
    "batch_size": 32,
    "epochs": 3,
    "model": "mlp",
    "width": 16,
}
SEEDS = (1, 5, 2)
#: Of weights and metrics in float32, after some twenty steps.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data():
    return load_resident(load_dataset("digits", train_size=240), torch.device("cpu"))  # 200 to train on


@pytest.fixture(scope="module")
def corrupted(data):
    return corrupt_test_images(data)


def configure(**changes):
    return TrialConfig.from_flat(FLAT | changes)


def train_alone(config, seed, data, corrupted=None):
    """What a trial of its own does, up to its last epoch or the one in which it diverges."""
    state = start_training(dataclasses.replace(config, seed=seed), data)
    rows = []
    while not rows or not (rows[-1]["diverged"] or state.epoch == config.epochs):
        rows.append(run_epoch(state, data))
    final = None
    if corrupted is not None:
        final = final_evaluation(state, data, corrupted, diverged=bool(rows[-1]["diverged"]))
        rows[-1].update(final.metrics)
    return state, rows, final


def weights(state):
    return torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()])


def assert_rows_agree(rows, expected, **tolerance):
    assert len(rows) == len(expected)
    for row, alone in zip(rows, expected, strict=True):
        assert set(row) == set(alone)
        assert all(type(value) is float for value in row.values())
        seconds = {"epoch_seconds"}
        assert {key: row[key] for key in row if key not in seconds} == pytest.approx(
            {key: alone[key] for key in alone if key not in seconds}, **tolerance
        )


def assert_trained_as_alone(config, data, corrupted=None, *, tolerance=None):
    together = train_replicas(seeded(config, SEEDS), data, corrupted)
    for seed, replica in zip(SEEDS, together, strict=True):
        state, rows, final = train_alone(config, seed, data, corrupted)
        assert replica.state.config == state.config
        assert replica.state.epoch == state.epoch == config.epochs
        torch.testing.assert_close(weights(replica.state), weights(state), **(tolerance or TOLERANCE))
        assert_rows_agree(replica.rows, rows, rel=1e-3, abs=1e-4)
        assert (replica.final is None) == (final is None)
        if final is not None:
            assert replica.final.metrics == pytest.approx(final.metrics, rel=1e-3, abs=1e-4)
            assert replica.final.record["confusion"] == final.record["confusion"]


SWITCH = {"second_optimizer": "adam", "second_optimizer.learning_rate": 0.003, "switch_epoch": 1}
CHANGES = {
    **{f"loss {loss}": {"loss": loss} for loss in LOSSES},
    "loss with a parameter": {"loss": "focal", "loss.gamma": 0.5},
    **{
        f"optimizer {optimizer}": {"optimizer": optimizer, "optimizer.learning_rate": 0.003} for optimizer in OPTIMIZERS
    },
    "momentum and decay": {"optimizer.momentum": 0.9, "optimizer.weight_decay": 0.01},
    **{f"activation {activation}": {"activation": activation} for activation in ACTIVATIONS},
    "sum": {"reduction": "sum", "optimizer.learning_rate": 0.05 / 32},
    "cosine": {"schedule": "cosine"},
    "switch": SWITCH,
    "switch, cosine": SWITCH | {"schedule": "cosine"},
    "depth": {"hidden_layers": 3},
    "given deviation": {"init_std": 0.1},
    "imbalance": {"imbalance": 4.0},
    "one batch": {"batch_size": 500},
    "one example left over": {"batch_size": 199},
    "bf16": {"precision": "bf16"},
    "convnet": {"model": "convnet", "width": 4},
    "convnet, sum": {"model": "convnet", "width": 4, "reduction": "sum", "optimizer.learning_rate": 0.05 / 32},
    "convnet, adam, hinge": {"model": "convnet", "width": 4, "optimizer": "adam", "loss": "hinge"},
}


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in CHANGES.items()])
def test_replicas_are_trained_as_each_would_be_alone(data, changes):
    assert_trained_as_alone(configure(**changes), data)


def test_convolutions_in_bf16_are_those_of_trials_to_its_precision(data):
    config = configure(model="convnet", width=4, precision="bf16")
    assert_trained_as_alone(config, data, tolerance={"rtol": 0, "atol": 1e-3})


@pytest.mark.parametrize("model", [{}, {"model": "convnet", "width": 4}])
def test_the_look_at_the_test_split_sees_what_it_would_see_alone(data, corrupted, model):
    assert_trained_as_alone(configure(**model, epochs=2), data, corrupted)


def test_first_weights_splits_and_orders_are_those_of_each_seed_to_the_bit(data):
    config = configure(model="convnet", width=4)
    together = start_replicas(seeded(config, SEEDS), data)
    for position, seed in enumerate(SEEDS):
        alone = start_training(dataclasses.replace(config, seed=seed), data)
        assert torch.equal(weights(together.update_member(position)), weights(alone))
        assert torch.equal(together.state.train_indices[position], alone.train_indices)
        assert torch.equal(together.state.val_indices[position], alone.val_indices)
        assert torch.equal(together.members[position].order.get_state(), alone.order.get_state())


def test_one_replica_is_a_trial(data):
    (replica,) = train_replicas(seeded(configure(), (7,)), data)
    _, rows, _ = train_alone(configure(), 7, data)
    assert_rows_agree(replica.rows, rows, rel=1e-3, abs=1e-4)


def test_the_company_of_a_replica_changes_nothing_of_it(data):
    few, many = (train_replicas(seeded(configure(), seeds), data) for seeds in ((3, 4), (4, 9, 8, 3, 0)))
    for one, other in ((few[0], many[3]), (few[1], many[0])):
        torch.testing.assert_close(weights(one.state), weights(other.state), **TOLERANCE)


def break_replica(monkeypatch, seed, *, epoch):
    """From an epoch on, the weights of one seed are not numbers."""
    run = replica_trials.run_replicas_epoch

    def run_broken(together, data, **watch):
        if together.state.epoch == epoch:
            position = [member.config.seed for member in together.members].index(seed)
            with torch.no_grad():
                for parameter in together.state.model.parameters():
                    parameter[position] = math.nan
        return run(together, data, **watch)

    monkeypatch.setattr(replica_trials, "run_replicas_epoch", run_broken)


@pytest.mark.parametrize(
    "changes", [{}, {"model": "convnet", "width": 4}, {"optimizer": "rmsprop"}, {"optimizer": "adam"}]
)
def test_a_replica_that_diverges_ends_at_chance_and_leaves_the_others_alone(data, corrupted, monkeypatch, changes):
    config = configure(**changes | {"optimizer.learning_rate": 0.003})
    undisturbed = train_replicas(seeded(config, SEEDS), data)
    break_replica(monkeypatch, 5, epoch=1)
    first, broken, last = train_replicas(seeded(config, SEEDS), data, corrupted)
    assert [len(replica.rows) for replica in (first, broken, last)] == [3, 2, 3]
    assert [row["diverged"] for row in broken.rows] == [0, 1]
    assert broken.state.epoch == 2
    assert broken.rows[-1]["val_accuracy"] == broken.rows[-1]["test_accuracy"] == 0.1
    assert all(math.isfinite(value) for value in broken.rows[-1].values())
    assert broken.final.record == {}
    for replica, before in ((first, undisturbed[0]), (last, undisturbed[2])):
        assert torch.equal(weights(replica.state), weights(before.state))


def test_where_all_replicas_diverge_nothing_more_is_trained(data):
    together = train_replicas(seeded(configure(**{"optimizer.learning_rate": 1e38}), SEEDS), data)
    for seed, replica in zip(SEEDS, together, strict=True):
        _, rows, _ = train_alone(configure(**{"optimizer.learning_rate": 1e38}), seed, data)
        assert [row["diverged"] for row in replica.rows] == [1]
        assert set(replica.rows[0]) == set(rows[0])


def test_replicas_share_the_seconds_of_their_epoch(data, monkeypatch):
    clock = iter((10.0, 16.0))
    monkeypatch.setattr(replicas.time, "perf_counter", lambda: next(clock))
    rows = run_replicas_epoch(start_replicas(seeded(configure(), SEEDS), data), data)
    assert [row["epoch_seconds"] for row in rows] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "mine:loss"}, "`loss` is 'mine:loss' and must be one of the project's own where trials are"),
        ({"optimizer": "mine:lars"}, "`optimizer` is 'mine:lars' and must be one of the project's own"),
        (SWITCH | {"second_optimizer": "mine:lars"}, "`second_optimizer` is 'mine:lars' and must be"),
        (
            {"model": "resnet18"},
            "`model` is 'resnet18' and must be one of mlp, convnet where trials are trained as one",
        ),
        ({"model": "mine:build"}, "`model` is 'mine:build' and must be one of mlp, convnet"),
        ({"activation": "mine:prelu"}, "`activation` is 'mine:prelu' and must be one of the project's own"),
        ({"augment": True}, "`augment` is True and must be False where trials are trained as one model."),
    ],
)
def test_what_cannot_be_batched_is_refused_with_value_and_rule(data, changes, message):
    with pytest.raises(InputError, match=message):
        train_replicas(seeded(configure(**changes), SEEDS), data)


def test_other_differences_than_seed_and_rate_are_refused(data):
    with pytest.raises(InputError, match=r"may differ in seed and optimizer.learning_rate only"):
        train_replicas([configure(), configure(batch_size=16)], data)


def test_no_trial_is_refused(data):
    with pytest.raises(InputError, match="must be one or more; got none"):
        train_replicas([], data)


RATES = (0.05, 0.05, 0.004, 0.02, 0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.momentum": 0.9},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "schedule": "cosine"},
        {"optimizer": "rmsprop"},
        SWITCH,
        {"model": "convnet", "width": 4},
    ],
)
def test_replicas_may_have_learning_rates_of_their_own(data, changes):
    scale = 0.1 if changes.get("optimizer") in ("adam", "adamw", "rmsprop") else 1.0
    configs = [
        configure(**changes, **{"seed": seed, "optimizer.learning_rate": scale * rate})
        for seed, rate in zip((1, 5, 1, 5, 2), RATES, strict=True)
    ]
    for config, replica in zip(configs, train_replicas(configs, data), strict=True):
        state, rows, _ = train_alone(config, config.seed, data)
        assert replica.state.config == config
        torch.testing.assert_close(weights(replica.state), weights(state), **TOLERANCE)
        assert_rows_agree(replica.rows, rows, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("watch", [("test",), ("noise",), ("test", "noise")])
def test_what_is_watched_is_what_each_would_see_alone(data, watch):
    trials = ReplicaTrials(seeded(configure(), SEEDS), data)
    while not trials.ended:
        trials.run_epoch(watch=watch)
    for position, seed in enumerate(SEEDS):
        state = start_training(dataclasses.replace(configure(), seed=seed), data)
        rows = [run_epoch(state, data, watch=watch) for _ in range(3)]
        assert_rows_agree(trials.finish(position, None).rows, rows, rel=1e-3, abs=1e-4)


def test_of_a_replica_that_has_diverged_chance_is_seen(data, monkeypatch):
    break_replica(monkeypatch, 5, epoch=1)
    trials = ReplicaTrials(seeded(configure(), SEEDS), data)
    while not trials.ended:
        trials.run_epoch(watch=("test", "noise"))
    first, broken, _ = (trials.finish(position, None).rows for position in range(3))
    assert {key: value for key, value in broken[1].items() if "test" in key} == {"test_accuracy": 0.1}
    assert {key for key in first[1] if "noisy" in key} == {key for key in broken[0] if "noisy" in key} != set()


class FakeGraphs:
    """CUDA graphs' behaviour without a card: a replay computes from and into the very tensors of the capture."""

    def __init__(self, monkeypatch):
        self.num_eager, self.num_captured, self.num_replayed, self.capturing = 0, 0, 0, None
        for name in ("Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: self)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(self))
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)

    def wait_stream(self, _):
        pass

    def wrap(self, step):
        """A step that does nothing while it is captured, as kernels that are recorded only."""

        def wrapped(indices, labels):
            if self.capturing is None:
                self.num_eager += 1
                return step(indices, labels)
            outputs = torch.empty(*indices.shape, 10), torch.empty(indices.shape)
            self.capturing.run = lambda: [
                buffer.copy_(values) for buffer, values in zip(outputs, step(indices, labels), strict=True)
            ]
            return outputs

        return wrapped


class FakeGraph:
    def __init__(self, graphs):
        self.graphs = graphs

    def __enter__(self):
        self.graphs.capturing = self
        self.graphs.num_captured += 1

    def __exit__(self, *_):
        self.graphs.capturing = None

    def replay(self):
        self.graphs.num_replayed += 1
        self.run()


@pytest.mark.parametrize("changes", [{"optimizer.momentum": 0.9}, {"optimizer": "adam"}, SWITCH])
def test_replayed_steps_train_as_eager_ones_do(data, monkeypatch, changes):
    graphs = FakeGraphs(monkeypatch)
    eager, replayed = (start_replicas(seeded(configure(**changes), SEEDS), data) for _ in range(2))

    def take_optimizers(*arguments):
        take(*arguments)
        if arguments[0] is replayed:
            replayed.step = GraphedStep(graphs.wrap(replayed.step), (3, 32), data.device)

    take = replicas._take_optimizers
    monkeypatch.setattr(replicas, "_take_optimizers", take_optimizers)
    replayed.step = GraphedStep(graphs.wrap(replayed.step), (3, 32), data.device)
    counts = []
    for _ in range(3):
        for row, expected in zip(run_replicas_epoch(replayed, data), run_replicas_epoch(eager, data), strict=True):
            assert row | {"epoch_seconds": 0} == expected | {"epoch_seconds": 0}
        counts.append((graphs.num_eager, graphs.num_captured, graphs.num_replayed))
    # Six batches of 32 and one of eight, which has another shape; another optimizer is warmed up and captured anew.
    again = changes is SWITCH
    assert counts == [(4, 1, 3), (8, 2, 6), (9, 2, 12)] if again else counts == [(4, 1, 3), (5, 1, 9), (6, 1, 15)]
    assert torch.equal(weights(replayed.state), weights(eager.state))


def test_a_learning_rate_in_the_gpus_memory_follows_its_schedule(data):
    """A graph would repeat a number of the host's; PyTorch's own optimizers and schedules take a tensor."""
    for name in ("sgd", "adam", "adamw"):
        config = configure(optimizer=name, schedule="cosine", **{"optimizer.learning_rate": 0.003})
        configs = [
            *seeded(config, (1, 5)),
            configure(**config.to_flat() | {"seed": 2, "optimizer.learning_rate": 0.01}),
        ]
        together, expected = (start_replicas(configs, data) for _ in range(2))
        put_on_device(together.optimizers, torch.device("cpu"))
        tensors = [own.optimizer.param_groups[0]["lr"] for own in together.optimizers]
        assert len(tensors) == 2
        for _ in range(3):
            for row, other in zip(run_replicas_epoch(together, data), run_replicas_epoch(expected, data), strict=True):
                seconds = {"epoch_seconds": 0}
                assert row | seconds == pytest.approx(other | seconds, rel=1e-5)
        assert [own.optimizer.param_groups[0]["lr"] for own in together.optimizers] == tensors
        assert all(isinstance(own.optimizer.param_groups[0]["lr"], torch.Tensor) for own in together.optimizers)


def test_on_a_cpu_a_graph_is_the_step_itself(data):
    eager, graphed = (train_replicas(seeded(configure(), SEEDS), data, graph=graph) for graph in (False, True))
    for one, other in zip(eager, graphed, strict=True):
        assert torch.equal(weights(one.state), weights(other.state))
