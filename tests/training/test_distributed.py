import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from spacex.errors import RequestError
from spacex.training.batches import EpochOrder, seeded
from spacex.training.distributed import SINGLE, Distributed, SyncBatchNorm2d, choose_device, frozen, unwrap_ddp

SCRIPT = Path(__file__).with_name("two_workers.py")


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What one worker, and each of two, left behind: gradients and parameters by name."""
    folder = tmp_path_factory.mktemp("workers")
    crew = [(0, 1), (0, 2), (1, 2)]
    running = [subprocess.Popen([sys.executable, SCRIPT, str(r), str(n), str(folder)]) for r, n in crew]
    assert [process.wait(timeout=240) for process in running] == [0, 0, 0]
    return [torch.load(folder / f"{n}-{r}.pt", weights_only=True) for r, n in crew]


def test_two_workers_have_the_gradients_of_one(left):
    one, first, _ = left
    for name, (gradient, _) in one.items():
        assert (gradient - first[name][0]).abs().max() < 1e-5, name
    largest = {name.split()[0]: 0.0 for name in one}
    for name, (gradient, _) in one.items():
        largest[name.split()[0]] = max(largest[name.split()[0]], float(gradient.abs().max()))
    assert min(largest.values()) > 1e-3  # there was something to compare


def test_both_workers_end_with_the_same_networks(left):
    _, first, second = left
    for name, (_, parameter) in first.items():
        assert torch.equal(parameter, second[name][1]), name


def test_an_epoch_s_batches_are_the_same_however_many_share_them():
    whole = list(EpochOrder(list(range(23)), 6, 4))
    shares = [list(EpochOrder(list(range(23)), 6, 4, Distributed(rank, 3))) for rank in range(3)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert len(set(chain(*whole))) == 18


def test_another_epoch_another_order_and_partners_of_the_other_class():
    order = EpochOrder([0, 1, 2, 3], 2, 0, partners=[10, 11])
    first = list(order)
    order.epoch = 1
    assert list(order) != first
    assert all(set(batch[2:]) <= {10, 11} and len(batch) == 4 for batch in first)


@pytest.mark.parametrize(("chips", "batch", "size"), [(0, 4, 1), (8, 5, 2), (1, 2, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(chips, batch, size):
    with pytest.raises(RequestError):
        EpochOrder(list(range(chips)), batch, 0, Distributed(0, size))


def test_named_streams_are_repeatable_and_differ():
    draws = [torch.rand(3, generator=seeded("a", n)) for n in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_frozen_thaws_even_after_an_error():
    net = nn.Linear(2, 2)
    seen = []

    def fail():
        with frozen(net):
            seen.append(net.weight.requires_grad)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [False]
    assert net.weight.requires_grad


def test_the_classifier_alone_is_not_wrapped():
    net = nn.Linear(2, 2)
    assert unwrap_ddp(SINGLE.wrap(net)) is net


@pytest.fixture
def process_group(tmp_path):
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_the_network_is_compiled_within_its_distributed_wrapper(process_group):
    wrapped = Distributed(size=2, compile=True).wrap(nn.Linear(2, 2))
    assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
    assert wrapped._compiled_call_impl is None
    assert wrapped.module._compiled_call_impl is not None


def test_shared_batch_norm_reads_no_number_from_its_device(monkeypatch):
    shared, x = SyncBatchNorm2d(3), torch.rand(2, 3, 4, 4)
    plain = nn.BatchNorm2d(3)
    plain(x)

    def read(_):
        raise AssertionError("a GPU would be waited for")

    for name in ("item", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, read)
    shared(x)
    monkeypatch.undo()
    assert torch.allclose(plain.running_var, shared.running_var)


def test_a_missing_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="no GPU here"):
        choose_device(True)


def test_shared_batch_norm_is_batch_norm_in_eval():
    plain, shared = nn.BatchNorm2d(3).eval(), SyncBatchNorm2d(3).eval()
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(plain(x), shared(x))
