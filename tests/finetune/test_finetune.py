"""Fine-tuning ONNX models and torch modules: what it gains, what it leaves alone, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from models import mlp, residual_cnn
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn
from tuning import SETTINGS, gradients_of, job_of, samples, unlabelled

from graphprune.errors import ModelError, UsageError
from graphprune.finetune import FinetuneReport, Progress, finetune
from graphprune.finetune.engine import start
from graphprune.runtime import session


def outputs(model: ModelProto, x: Any) -> Any:
    return session(model).run(None, {"x": x})[0]


def weights(model: ModelProto) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def without_weights(model: ModelProto) -> bytes:
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        tensor.ClearField("raw_data")
    return copy.SerializeToString()


def test_a_pruned_net_learns_to_agree_with_its_teacher_again(dense: ModelProto, pruned: ModelProto) -> None:
    given = pruned.SerializeToString()
    tuned, report = finetune(pruned, data=unlabelled(600), teacher=dense, epochs=4, lr=3e-3)
    assert isinstance(tuned, ModelProto)
    assert pruned.SerializeToString() == given
    # On other points than any it has seen, through onnxruntime.
    x = unlabelled(500, seed=1)["x"]
    wanted = outputs(dense, x).argmax(1)
    before, after = ((outputs(m, x).argmax(1) == wanted).mean() for m in (pruned, tuned))
    assert before < 0.8
    assert after > before + 0.15
    assert report.before is not None
    assert report.after is not None
    assert report.before.agreement == pytest.approx(before, abs=0.15)
    assert report.after.agreement == pytest.approx(after, abs=0.1)
    assert report.after.loss < report.before.loss
    assert report.samples == {"trained": 540, "held out": 60}
    assert "kl of 'y': logits" in report.loss


def test_everything_but_the_values_is_byte_for_byte_the_same(dense: ModelProto, pruned: ModelProto) -> None:
    model = ModelProto()
    model.CopyFrom(pruned)
    model.producer_name, model.doc_string = "somebody", "a model"
    model.metadata_props.add(key="k", value="v")
    tuned, _ = finetune(model, data=unlabelled(64), teacher=dense, epochs=1)
    assert isinstance(tuned, ModelProto)
    assert without_weights(tuned) == without_weights(model)
    assert all((weights(tuned)[n] != w).any() for n, w in weights(model).items())


def test_a_seed_makes_a_run_reproducible_bit_for_bit(dense: ModelProto, pruned: ModelProto) -> None:
    def run(seed: int) -> bytes:
        model, _ = finetune(pruned, data=unlabelled(96), teacher=dense, epochs=1, seed=seed)
        assert isinstance(model, ModelProto)
        return model.SerializeToString()

    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert run(0) == first
    assert run(1) != first


def test_labels_alone_teach_too(pruned: ModelProto) -> None:
    _, report = finetune(pruned, data=samples(400), epochs=2, lr=3e-3)
    assert report.before is not None
    assert report.after is not None
    assert report.before.accuracy is not None
    assert report.after.accuracy is not None
    assert report.after.accuracy > report.before.accuracy
    assert report.after.agreement is None
    assert report.loss.startswith("ce: ")


def test_the_gradient_is_that_of_the_mean_divergence() -> None:
    """Against softmax(y) - softmax(t) in float64, pulled through the last layer by hand."""
    job = job_of()
    found = gradients_of(job, 16)["w3"]
    x = job.train.first(16).take(np.arange(16)).inputs["x"].astype(np.float64)
    w = {name: value.astype(np.float64) for name, value in weights(mlp(batch="N")).items()}
    hidden = np.maximum(np.maximum(x @ w["w1"].T + w["b1"], 0) @ w["w2"].T + w["b2"], 0)
    target = outputs(mlp(batch="N", seed=1), x.astype(np.float32)).astype(np.float64)
    p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (hidden @ w["w3"].T + w["b3"], target))
    np.testing.assert_allclose(found, (p - q).T @ hidden / 16, rtol=1e-4, atol=1e-6)


def test_a_fixed_batch_gives_the_gradient_of_the_whole_step() -> None:
    one = job_of(model=mlp(batch=4), teacher=mlp(batch=4, seed=1))
    whole = gradients_of(job_of(), 16)
    parts = gradients_of(one, 16)
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        np.testing.assert_allclose(parts[name], gradient, rtol=1e-4, atol=1e-7)
    tuned, report = finetune(mlp(batch=4), data=unlabelled(83), teacher=mlp(batch=4, seed=1), epochs=1, batch_size=12)
    assert isinstance(tuned, ModelProto)
    assert report.samples["held out"] == 8
    assert any("left out" in words for words in report.warnings)
    with pytest.raises(UsageError, match="multiple"):
        finetune(mlp(batch=4), data=unlabelled(83), teacher=mlp(batch=4, seed=1), batch_size=30)


def test_a_teacher_of_a_fixed_batch_is_asked_in_that_batch() -> None:
    _, report = finetune(mlp(batch="N"), data=unlabelled(40), teacher=mlp(batch=2, seed=1), epochs=1)
    assert report.after is not None


def test_the_best_weights_on_held_out_samples_are_kept_and_patience_ends_a_run(
    dense: ModelProto, pruned: ModelProto
) -> None:
    seen: list[Progress] = []
    tuned, report = finetune(
        pruned, data=unlabelled(100), teacher=dense, epochs=9, lr=3.0, optimizer="sgd", patience=2, progress=seen.append
    )
    assert report.stopped_early
    scores = [report.before, *(epoch.held_out for epoch in report.history)]
    losses = [s.loss for s in scores if s is not None]
    assert len(losses) == len(scores) == report.best_epoch + 3 < 10
    assert report.after == scores[report.best_epoch]
    assert report.best_epoch == int(np.argmin(losses))
    assert [p.held_out for p in seen if p.held_out is not None] == scores
    assert isinstance(tuned, ModelProto)
    if report.best_epoch == 0:
        assert tuned.SerializeToString() == pruned.SerializeToString()


def test_without_held_out_samples_the_last_weights_are_given_back(dense: ModelProto, pruned: ModelProto) -> None:
    tuned, report = finetune(pruned, data=unlabelled(64), teacher=dense, epochs=1, holdout=0)
    assert isinstance(tuned, ModelProto)
    assert tuned.SerializeToString() != pruned.SerializeToString()
    assert (report.before, report.after, report.history[0].held_out) == (None, None, None)
    assert report.samples == {"trained": 64, "held out": 0}


def test_a_run_that_diverges_says_so(dense: ModelProto, pruned: ModelProto) -> None:
    with pytest.raises(ModelError) as caught:
        finetune(pruned, data=unlabelled(100), teacher=dense, lr=1e30, optimizer="sgd", epochs=5)
    assert caught.value.code == "loss-not-finite"
    assert "--lr" in str(caught.value)


def test_batch_norm_learns_its_statistics_unless_frozen() -> None:
    model, teacher = residual_cnn(4, batch="N"), residual_cnn(4, batch="N", seed=1)
    x = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)

    def moved(**options: Any) -> bool:
        tuned, report = finetune(model, data=x, teacher=teacher, epochs=1, holdout=0, **options)
        assert isinstance(tuned, ModelProto)
        changed = [(weights(tuned)[f"stem.{part}"] != weights(model)[f"stem.{part}"]).any() for part in ("mean", "var")]
        assert (weights(tuned)["stem.gamma"] != weights(model)["stem.gamma"]).any()
        assert any("batch normalisation" in w for w in report.warnings) == (options == {"batch_size": 4})
        return all(changed)

    assert moved(batch_size=20)
    assert not moved(batch_size=4)
    assert moved(batch_size=4, batch_norm="train")
    assert not moved(batch_size=20, batch_norm="freeze")


class Net(nn.Module):
    """Normalisation by the batch, dropout, two inputs and two outputs, and a part that is not to be trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(16, width), nn.BatchNorm1d(width), nn.Dropout(0.1)
        self.last, self.side = nn.Linear(width, 10), nn.Linear(width, 2)
        self.side.requires_grad_(False)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        hidden = self.drop(self.norm(self.first(x) * scale[:, None]).relu())
        return {"classes": self.last(hidden), "side": self.side(hidden).tanh()}


def two_inputs(count: int = 120) -> dict[str, Any]:
    return {"x": samples(count)["x"].astype(np.float64), "scale": np.full(count, 0.5, np.float32)}


def test_a_module_is_trained_as_a_copy_of_its_own_class() -> None:
    torch.manual_seed(0)
    teacher, student = Net(24), Net(6)
    student.train()
    student.drop.eval()
    before = {name: t.clone() for name, t in student.state_dict().items()}
    tuned, report = finetune(student, data=two_inputs(), teacher=teacher, epochs=4, lr=1e-2, batch_norm="train")
    assert isinstance(tuned, Net)
    assert tuned is not student
    assert all(torch.equal(t, before[name]) for name, t in student.state_dict().items())
    assert (tuned.training, tuned.drop.training, teacher.training) == (True, False, True)
    assert not torch.equal(tuned.first.weight, student.first.weight)
    assert not torch.equal(tuned.norm.running_mean, student.norm.running_mean)
    assert torch.equal(tuned.side.weight, student.side.weight)
    assert report.loss.startswith("kl+mse: ")
    assert report.after is not None
    assert report.before is not None
    assert report.after.loss < report.before.loss
    again, _ = finetune(student, data=two_inputs(), teacher=teacher, epochs=4, lr=1e-2, batch_norm="train")
    assert isinstance(again, Net)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), tuned.state_dict().values(), strict=True))


def test_a_module_is_fed_by_example() -> None:
    class Any2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 4)

        def forward(self, *values: Tensor, x: Tensor | None = None) -> Tensor:
            result: Tensor = self.layer(x if x is not None else values[0])
            return result

    torch.manual_seed(0)
    teacher, model = Any2(), Any2()
    for example in ((torch.zeros(2, 16),), torch.zeros(2, 16), {"x": torch.zeros(1, 16)}):
        _, report = finetune(model, data=unlabelled(40), teacher=teacher, epochs=1, example_inputs=example)
        assert report.samples["trained"] == 36
    with pytest.raises(UsageError, match="does not tell its inputs"):
        finetune(model, data=unlabelled(40), teacher=teacher)


def test_a_file_may_teach_a_module_and_a_module_a_file(dense: ModelProto) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 10))
    tuned, report = finetune(module, data=unlabelled(80), teacher=dense, epochs=1)
    assert isinstance(tuned, nn.Sequential)
    assert report.after is not None
    other, _ = finetune(mlp(batch="N"), data=unlabelled(80), teacher=module, epochs=1)
    assert isinstance(other, ModelProto)


def test_values_are_matched_by_cosine() -> None:
    torch.manual_seed(0)
    teacher, student = (nn.Sequential(nn.Linear(16, 5), nn.Tanh()) for _ in range(2))
    _, report = finetune(student, data=unlabelled(200), teacher=teacher, epochs=3, lr=1e-2)
    assert report.measure == "mean cosine between the outputs"
    assert report.before is not None
    assert report.after is not None
    assert report.before.agreement is not None
    assert report.after.agreement is not None
    assert report.before.agreement < report.after.agreement <= 1


def test_half_precision_on_the_cpu(dense: ModelProto, pruned: ModelProto) -> None:
    tuned, report = finetune(pruned, data=unlabelled(96), teacher=dense, epochs=2, precision="bf16", device="cpu")
    assert isinstance(tuned, ModelProto)
    assert (report.precision, report.device) == ("bf16", "cpu")
    assert report.after is not None
    assert report.before is not None
    assert report.after.loss < report.before.loss
    assert weights(tuned)["w1"].dtype == np.float32


def test_two_engines_of_other_precision_in_one_process() -> None:
    assert [start("cpu", precision).precision for precision in ("32", "bf16", "auto")] == ["32", "bf16", "32"]


def test_the_report_is_plain_data(dense: ModelProto, pruned: ModelProto) -> None:
    _, report = finetune(pruned, data=samples(64), teacher=dense, epochs=1, labels="labels", label_weight=0.25)
    body = json.loads(report.to_json())
    assert body["schema"] == "graphprune.finetune/1"
    assert set(body) == {"schema", *vars(report)}
    assert body["settings"] == {
        **replace(SETTINGS, label_weight=0.25, epochs=1, batch_size=32, device="auto").to_dict()
    }
    assert body["loss"].startswith("kl+ce: 0.75 x ")
    assert isinstance(report, FinetuneReport)
