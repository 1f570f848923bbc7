"""The callback in a Trainer: what it logs, when it steps, and how training is taken up again."""

import warnings

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger

import patternc
from patternc.integrations.lightning import PatternCallback
from patternc.nn import MultiheadAttention, PatternAttention, ProgressiveSparsity

N, BATCHES = 16, 5
HUBS = "pattern hubs(w: tokens = 2, is_hub: bool[n]) = { q -> k : abs(q - k) <= w or is_hub[k] }"


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.attention = MultiheadAttention(8, 2, batch_first=True, pattern="std/local", window=16)
        self.other = patternc.compile("std/presets/local", heads=4, window=4).module(embed_dim=8)
        self.seen = []

    def training_step(self, batch, batch_idx):
        x = self.attention(batch, batch, batch, need_weights=False)[0]
        self.seen.append(self.attention.params["window"])
        return self.other(x).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Kept(Logger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.rows = []

    name, version = "kept", 0

    def log_metrics(self, metrics, step=None):
        self.rows += [(step, {k: v for k, v in metrics.items() if k.startswith("pattern")})]

    def log_hyperparams(self, *args, **kwargs):
        pass


def trained(model, callback, folder, *, epochs=1, logger=None, resume=None, **options):
    data = torch.utils.data.DataLoader(torch.randn(2 * BATCHES, N, 8), batch_size=2)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[callback], logger=logger or Kept(), default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
        **options,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the number of workers, and the like
        trainer.fit(model, data, ckpt_path=resume, weights_only=False if resume else None)
    return trainer


def density(window):
    return patternc.compile("std/local", heads=1, window=window).stats(N).density


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path, monkeypatch):
    """Nothing is written anywhere else."""
    monkeypatch.chdir(tmp_path)


def test_densities_are_those_of_each_batch(tmp_path):
    model, logger = Model(), Kept()
    schedule = ProgressiveSparsity(model.attention, start=16, end=4, steps=3, multiple=6)
    trained(model, PatternCallback(N, [schedule]), tmp_path, logger=logger)
    assert model.seen == [16, 12, 6, 4, 4]
    assert [step for step, row in logger.rows if row] == [0, 1, 2, 3, 4]
    other = patternc.compile("std/presets/local", heads=1, window=4).stats(N).density
    for (_, row), window in zip(logger.rows, model.seen, strict=False):
        assert row["pattern/window"] == window
        assert row["pattern/density/attention"] == pytest.approx(density(window))
        assert row["pattern/density/other"] == pytest.approx(other)
        assert row["pattern/density"] == pytest.approx((2 * density(window) + 4 * other) / 6)


def test_schedules_follow_the_optimiser_not_the_batches(tmp_path):
    model = Model()
    schedule = ProgressiveSparsity(model.attention, start=16, end=4, steps=3)
    trained(model, PatternCallback(N, [schedule]), tmp_path, accumulate_grad_batches=2)
    assert model.seen == [16, 16, 12, 12, 8]


def test_training_is_taken_up_where_it_stood(tmp_path):
    model = Model()
    schedule = ProgressiveSparsity(model.attention, start=16, end=4, steps=8, multiple=2)
    trainer = trained(model, PatternCallback(N, [schedule]), tmp_path)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    whole = Model()
    schedule = ProgressiveSparsity(whole.attention, start=16, end=4, steps=8, multiple=2)
    trained(whole, PatternCallback(N, [schedule]), tmp_path, epochs=2)

    again = Model()
    schedule = ProgressiveSparsity(again.attention, start=16, end=4, steps=8, multiple=2)
    trained(again, PatternCallback(N, [schedule]), tmp_path, epochs=2, resume=tmp_path / "half.ckpt")
    assert model.seen + again.seen == whole.seen
    assert schedule.count == 8
    with pytest.raises(ValueError, match="the checkpoint has 1 schedules; found 0"):
        trained(Model(), PatternCallback(N), tmp_path, epochs=2, resume=tmp_path / "half.ckpt")


def test_logs_of_lightning_itself(tmp_path):
    trained(Model(), PatternCallback(N), tmp_path, logger=CSVLogger(tmp_path, name="logs"))
    (found,) = tmp_path.glob("logs/*/metrics.csv")
    assert "pattern/density/attention" in found.read_text()


def test_run_time_tensors_are_given_for_counting(tmp_path):
    class Hubs(Model):
        def __init__(self):
            super().__init__()
            self.attention = MultiheadAttention(8, 2, batch_first=True, pattern=HUBS)

        def training_step(self, batch, batch_idx):
            flags = torch.arange(N) == 3
            return self.attention(batch, batch, batch, need_weights=False, is_hub=flags)[0].square().mean()

    without, given = Kept(), Kept()
    trained(Hubs(), PatternCallback(N), tmp_path, logger=without)
    trained(Hubs(), PatternCallback(N, tensors={"is_hub": torch.arange(N) == 3}), tmp_path, logger=given)
    assert "pattern/density/attention" not in without.rows[0][1]
    expected = patternc.compile(HUBS, heads=2).stats(N, is_hub=torch.arange(N) == 3).density
    assert given.rows[0][1]["pattern/density/attention"] == pytest.approx(expected)


def test_what_is_refused(tmp_path):
    class Empty(Model):
        def __init__(self):
            super().__init__()
            self.attention = PatternAttention(HUBS, heads=2)
            self.other = torch.nn.Linear(8, 8)

    with pytest.raises(ValueError, match="at least 1; found 0"):
        PatternCallback(0)
    with pytest.raises(ValueError, match="Empty has no pattern whose density is known"):
        trained(Empty(), PatternCallback(N), tmp_path)
