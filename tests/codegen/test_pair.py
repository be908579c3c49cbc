"""A teacher-student pair: the loss, what is trained by it, and what stays as it is."""

import copy
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from dgmcompile.codegen import compile_graph, source_of

from .test_emitted import run_alone


def by_hand(pair: SimpleNamespace, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(surrogate, latent) with the live modules in the modes that they have."""
    teacher, student = pair.teacher, pair.student
    with torch.no_grad():
        z = teacher.mu + noise
        p_loc, p_scale = teacher.net(z), teacher.log_scale.exp()
    h = student.mu + noise
    q_loc, q_scale = student.net(h), student.log_scale.exp()
    ratio = (p_scale / q_scale) ** 2
    kl = 0.5 * (ratio + ((p_loc - q_loc) / q_scale) ** 2 - 1 - ratio.log()).sum(-1)
    return kl.mean(), ((z - h) ** 2).mean()


def test_the_loss_and_its_gradient_are_those_written_by_hand(pair: SimpleNamespace):
    loss, x = compile_graph(pair.graph), torch.randn(6, 3)
    noise = loss.sample_noise(x)
    pair.teacher.eval()
    out = loss(x, noise=noise)
    surrogate, latent = by_hand(pair, noise["z_noise"])
    torch.testing.assert_close(out.surrogate["y"], surrogate)
    torch.testing.assert_close(out.latent["z"], latent)
    torch.testing.assert_close(out.total, surrogate + 0.1 * latent)
    out.total.backward()
    found = {name: p.grad.clone() for name, p in pair.student.named_parameters()}
    pair.student.zero_grad()
    (surrogate + 0.1 * latent).backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in pair.student.named_parameters()})


def test_no_gradient_reaches_the_teacher_and_its_flags_stay(pair: SimpleNamespace):
    loss = compile_graph(pair.graph)
    loss(torch.randn(6, 3)).total.backward()
    assert all(p.grad is None and p.requires_grad for p in pair.teacher.parameters())
    assert all(module.training for module in pair.teacher.modules())
    assert not any(p.requires_grad for p in loss.teacher.parameters())


def test_the_teacher_shares_the_users_values(pair: SimpleNamespace):
    loss, x = compile_graph(pair.graph), torch.randn(6, 3)
    noise = loss.sample_noise(x)
    before = loss(x, noise=noise).surrogate["y"]
    with torch.no_grad():
        pair.teacher.log_scale += 1
    assert not torch.equal(loss(x, noise=noise).surrogate["y"], before)
    assert loss.teacher.mu.data_ptr() == pair.teacher.mu.data_ptr()
    assert loss.student.mu is pair.student.mu


def test_only_the_student_is_trained_and_saved(pair: SimpleNamespace):
    loss = compile_graph(pair.graph)
    assert {name.split(".")[0] for name in loss.state_dict()} == {"student"}
    assert [id(p) for p in loss.parameters()] == [id(p) for p in pair.student.parameters()]


def test_modes_are_the_users_for_the_student_and_eval_for_the_teacher(pair: SimpleNamespace):
    loss = compile_graph(pair.graph)
    assert [m.training for m in loss.student.net] == [True, True, False, True]
    for mode in (True, False):
        loss.train(mode)
        assert {m.training for m in loss.student.modules()} == {mode}
        assert not any(m.training for m in loss.teacher.modules())
    statistics = loss.teacher.net[1].running_mean.clone()
    loss.train()(torch.randn(6, 3))
    assert torch.equal(loss.teacher.net[1].running_mean, statistics)
    assert not torch.equal(loss.student.net[1].running_mean, torch.zeros(4))
    assert pair.student.net[1].running_mean is loss.student.net[1].running_mean


def test_the_teacher_moves_along(pair: SimpleNamespace):
    loss = compile_graph(pair.graph).double()
    assert loss(torch.randn(6, 3)).total.dtype == torch.float64
    assert {p.dtype for p in loss.teacher.parameters()} == {torch.float64}
    assert pair.teacher.mu.dtype == torch.float32
    apart = copy.deepcopy(loss)
    assert apart.teacher is not loss.teacher


def test_the_file_trains_by_itself(pair: SimpleNamespace, tmp_path: Path):
    torch.save(pair.teacher.state_dict(), tmp_path / "teacher.pt")
    torch.save(pair.student.state_dict(), tmp_path / "student.pt")
    script = """
import torch
from emitted import Distillation, Student, Teacher, load_weights
torch.manual_seed(0)
teacher, student = Teacher(), Student()
load_weights(teacher, "teacher.pt")
load_weights(student, "student.pt")
loss = Distillation(teacher, student)
optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
totals = []
for _ in range(30):
    total = loss(torch.ones(32, 3)).total
    optimizer.zero_grad(); total.backward(); optimizer.step()
    totals.append(total.item())
print(totals[-1] < totals[0])
"""
    assert run_alone(tmp_path, source_of(pair.graph), script) == "True\n"
