"""The joint graph: what is shared, what is bound to the teacher, and the table of what does not fit."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.diagnostics import CompileError
from dgmcompile.distill.pair import pair_graphs
from dgmcompile.ir.graph import Call, Noise, Parameter, Sample, is_size

X = torch.zeros(4, 3)


class Model(PyroModule):
    """x -> z -> y, with an embedding of a buffer."""

    def __init__(self, latent: str = "z", argument: str = "x") -> None:
        super().__init__()
        self.net, self.out = nn.Linear(3, 2), nn.Linear(2, 3)
        self.register_buffer("offset", torch.ones(2))
        self.latent = latent

    def forward(self, x: Tensor) -> None:
        with pyro.plate("batch", x.shape[0]):
            z = pyro.sample(self.latent, dist.Normal(self.net(x) + self.offset, 1.0).to_event(1))
            pyro.sample("y", dist.Normal(self.out(z), 1.0).to_event(1), obs=x)


def paired(teacher: Any, student: Any, *args: Any, **options: Any) -> dgm.PairDGM:
    return dgm.pair(teacher, student, model_args=args or (X,), **options)


def refused(teacher: Any, student: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(CompileError) as error:
        paired(teacher, student, *args, **options)
    assert {d.code for d in error.value.diagnostics} == {"pair-mismatch"}
    (diagnostic,) = error.value.diagnostics
    return "\n".join(diagnostic.notes)


def ancestors(pair: dgm.PairDGM, name: str) -> set[str]:
    return pair.ancestors([name])


# --- what is shared ----------------------------------------------------------------------------------------


def test_inputs_sizes_and_noise_are_shared_and_the_rest_is_not():
    pair = paired(Model(), Model())
    assert pair.inputs == ("x",)
    assert set(pair.noises) == {"z_noise", "y_noise", "student.y_noise"} or set(pair.noises) == {"z_noise", "y_noise"}
    assert sum(is_size(node) for node in pair) == 1
    assert {"teacher.z", "student.z"} <= set(pair.latents)
    paths = {node.path for node in pair if isinstance(node, Parameter)}
    assert {path.split(".", 1)[0] for path in paths} == {"teacher", "student"}
    assert {"teacher.offset", "student.offset"} <= paths
    calls = {node.target for node in pair if isinstance(node, Call) and node.target_name.startswith("self.")}
    assert calls == {"self.teacher.net", "self.teacher.out", "self.student.net", "self.student.out"}
    assert not any(isinstance(node, Sample) for node in pair)


def test_arguments_behind_stars_are_shared():
    def model(*xs: Tensor, **weights: Tensor) -> None:
        with pyro.plate("batch", len(xs[0])):
            pyro.sample("y", dist.Normal(sum(xs) * weights["w"], 1.0).to_event(1), obs=xs[0])

    pair = dgm.pair(model, model, model_args=(X, X + 1), model_kwargs={"w": torch.ones(3)})
    assert len(pair.inputs) == 3
    assert dgm.compile(pair)(X, X + 1, w=torch.ones(3)).total == 0


def test_each_side_reads_its_own_tensors():
    teacher, student = Model(), Model()
    pair = paired(teacher, student)
    assert pair.binding.tensors["teacher.net.weight"] is teacher.net.weight
    assert pair.binding.tensors["student.net.weight"] is student.net.weight


def test_the_surrogate_gives_the_student_latents_of_its_own_from_the_same_noise():
    pair = paired(Model(), Model())
    (site,) = [site for site in pair.compared if site.name == "y"]
    (reads,) = [name for name in site.student.inputs if name in pair and not is_size(pair[name])][:1]
    assert "student.z" in ancestors(pair, reads) and "teacher.z" not in ancestors(pair, reads)
    assert "z_noise" in ancestors(pair, "student.z") and "z_noise" in ancestors(pair, "teacher.z")


def test_local_binds_the_students_reads_to_the_teachers_latents():
    pair = paired(Model(), Model(), method="local")
    (site,) = [site for site in pair.compared if site.name == "y"]
    (reads,) = [name for name in site.student.inputs if not is_size(pair[name])][:1]
    assert "teacher.z" in ancestors(pair, reads) and "student.z" not in ancestors(pair, reads)


def chain(x: Tensor) -> None:
    with pyro.plate("batch", x.shape[0]):
        first = pyro.sample("first", dist.Normal(torch.zeros(x.shape[0]), 1.0), obs=x[:, 0])
        pyro.sample("second", dist.Normal(first, 1.0), obs=x[:, 1])


@pytest.mark.parametrize("method", ["surrogate", "local", "marginalised"])
def test_both_read_the_teachers_targets(method: Any):
    pair = paired(chain, chain, method=method)
    (site,) = [site for site in pair.compared if site.name == "second"]
    assert "teacher.first" in site.teacher.inputs and "teacher.first" in site.student.inputs


def test_one_object_may_be_both():
    model = Model()
    pair = paired(model, model)
    assert pair.binding.tensors["teacher.net.weight"] is pair.binding.tensors["student.net.weight"]
    loss: Any = dgm.compile(pair)
    out = loss(torch.randn(5, 3))
    assert out.total == 0
    assert {id(p) for p in loss.parameters()} <= {id(p) for p in model.parameters()}


def test_a_layer_that_both_models_have_is_trained_in_the_student_only():
    teacher, student = Model(), Model()
    student.out = teacher.out
    loss: Any = dgm.compile(paired(teacher, student))
    loss(torch.randn(5, 3)).total.backward()
    assert teacher.out.weight.grad is not None  # it is the student's as well
    assert teacher.net.weight.grad is None and student.net.weight.grad is not None


# --- names and arguments ----------------------------------------------------------------------------------


def test_sites_of_other_names_are_matched():
    pair = paired(Model("z"), Model("h"), match={"z": "h"})
    assert [site.name for site in pair.compared] == ["z", "y"]
    assert "z_noise" in ancestors(pair, "student.h") and "h_noise" not in pair


@pytest.mark.parametrize("match", [None, {"z": None}])
def test_unmatched_latents_stand_alone(match: Any):
    pair = paired(Model("z"), Model("h"), match=match)
    assert [site.name for site in pair.compared] == ["y"]
    assert isinstance(pair["h_noise"], Noise) and "z_noise" not in ancestors(pair, "student.h")


def test_a_latent_of_one_name_may_be_left_unmatched():
    pair = paired(Model("z"), Model("z"), match={"z": None})
    assert [site.name for site in pair.compared] == ["y"]
    assert {"z_noise", "z_noise_1"} <= set(pair.noises)


def with_argument(name: str, order: str = "ab") -> Callable[..., None]:
    """y ~ Normal(a - b, 1), with the arguments in this order, and the first one of this name."""
    namespace: dict[str, Any] = {"pyro": pyro, "dist": dist}
    a, b = name, "b"
    signature = ", ".join({"a": a, "b": b}[key] for key in order)
    exec(f"def model({signature}):\n    pyro.sample('y', dist.Normal({a} - {b}, 1.0).to_event(1))\n", namespace)
    return namespace["model"]


def test_arguments_are_the_same_by_name_else_by_position():
    a, b = torch.tensor([5.0, 1.0]), torch.tensor([2.0, 3.0])
    for teacher, student in (
        (dgm.trace(with_argument("a"), (a, b)), dgm.trace(with_argument("a", "ba"), (b, a))),
        (dgm.trace(with_argument("a"), (a, b)), dgm.trace(with_argument("c"), (a, b))),
    ):
        loss: Any = dgm.compile(dgm.pair(teacher, student))
        assert loss(a, b).total == 0


def test_arguments_that_only_the_student_has_are_refused():
    teacher = dgm.trace(lambda x: pyro.sample("y", dist.Normal(x, 1.0).to_event(1)), (torch.zeros(3),))
    student = dgm.trace(lambda x, m: pyro.sample("y", dist.Normal(x * m, 1.0).to_event(1)), (torch.zeros(3),) * 2)
    with pytest.raises(CompileError, match=r"argument 'm' \| none +\| tensor"):
        dgm.pair(teacher, student)


def test_a_size_that_one_model_fixes_is_that_number_in_both():
    def loop(x: Tensor) -> None:
        rows = torch.stack([row.tanh() for row in x])
        pyro.sample("y", dist.Normal(rows, 1.0).to_event(2))

    def whole(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(x.new_zeros(x.shape), 1.0).to_event(2))

    for teacher, student in ((loop, whole), (whole, loop)):
        pair = paired(teacher, student)
        assert pair.guards
        loss: Any = dgm.compile(pair)
        torch.testing.assert_close(loss(torch.ones(4, 3)).total, torch.tensor(6 * torch.tensor(1.0).tanh().item() ** 2))
        with pytest.raises(ValueError, match="x"):
            loss(torch.ones(5, 3))


def test_rewritten_graphs_are_taken_in_their_traced_form():
    trace = dgm.trace(Model(), (X,))
    pair = dgm.pair(dgm.compact(dgm.semi_auxiliary(trace)), trace)
    assert [site.name for site in pair.compared] == ["z", "y"]
    rewritten = dgm.semi_auxiliary(trace).evolve(original=None)
    plain = dgm.parse(str(rewritten))
    with pytest.raises(CompileError, match="pair-form"):
        pair_graphs(plain, trace)


# --- what does not fit ------------------------------------------------------------------------------------


def site(name: str, law: Any, observed: bool = True) -> Callable[[Tensor], None]:
    def model(x: Tensor) -> None:
        with pyro.plate("batch", x.shape[0]):
            made = pyro.sample(name, law(x))
            if not observed:
                pyro.sample("y", dist.Normal(made.reshape(len(x), -1)[:, 0], 1.0))

    return model


def normal(*event: int) -> Callable[[Tensor], Any]:
    return lambda x: dist.Normal(torch.zeros(x.shape[0], *event), 1.0).to_event(len(event))


def test_the_table_of_a_mismatched_pair():
    def teacher(x: Tensor) -> None:
        with pyro.plate("batch", x.shape[0]):
            z = pyro.sample("z", normal(2)(x))
            pyro.sample("image", dist.Normal(z, 1.0).to_event(1))
            pyro.sample("label", dist.Bernoulli(logits=z[:, 0]))

    def student(x: Tensor) -> None:
        with pyro.plate("batch", x.shape[0]):
            z = pyro.sample("z", normal(5)(x))
            pyro.sample("picture", dist.Normal(z[:, :2], 1.0).to_event(1))
            pyro.sample("label", dist.Bernoulli(logits=z[:, 0]))

    assert refused(teacher, student).splitlines() == [
        "site      | teacher                   | student",
        "'image'   | Normal [batch, 2] float32 | none",
        "'picture' | none                      | Normal [batch, 2] float32",
        "'z'       | Normal [batch, 2] float32 | Normal [batch, 5] float32",
    ]


def test_roles_must_agree():
    assert "target Normal" in refused(site("y", normal()), site("w", normal(), observed=False), match={"y": "w"})


def test_dtypes_must_agree():
    double = site("y", lambda x: dist.Normal(torch.zeros(x.shape[0], dtype=torch.float64), 1.0))
    assert "Normal [batch] float32 | Normal [batch] float64" in refused(site("y", normal()), double)


def test_numbers_of_classes_must_agree():
    few, many = (site("y", lambda x, k=k: dist.Categorical(torch.ones(x.shape[0], k))) for k in (3, 4))
    assert "[batch, 3]" in refused(few, many) and "[batch, 4]" in refused(few, many)


def test_numbers_of_trials_must_agree():
    few, many = (site("y", lambda x, n=n: dist.Binomial(n, torch.full((x.shape[0],), 0.5))) for n in (5, 7))
    rows = refused(few, many)
    assert "5 trials" in rows and "7 trials" in rows


def test_latents_of_other_noise_are_refused_unless_none_is_needed():
    teacher = site("z", normal(), observed=False)
    student = site("z", lambda x: dist.Exponential(torch.ones(x.shape[0])), observed=False)
    rows = refused(teacher, student)
    assert "from StandardNormal [batch]" in rows and "from StandardExponential [batch]" in rows
    assert [s.name for s in paired(teacher, student, match={"z": None}).compared] == ["y"]
    loss: Any = dgm.compile(paired(teacher, student, method="local"))
    assert loss(X).latent.keys() == {"z"}


def test_targets_of_other_families_are_compared_by_sampling():
    teacher = site("y", normal())
    student = site("y", lambda x: dist.Logistic(torch.zeros(x.shape[0]), 1.0))
    loss: Any = dgm.compile(paired(teacher, student))
    noise = loss.sample_noise(X)
    y = noise["y_noise"]
    by_hand = dist.Normal(0.0, 1.0).log_prob(y) - dist.Logistic(0.0, 1.0).log_prob(y)
    torch.testing.assert_close(loss(X, noise=noise).total, by_hand.mean())


def test_targets_must_have_a_common_order():
    def backwards(x: Tensor) -> None:
        with pyro.plate("batch", x.shape[0]):
            second = pyro.sample("second", dist.Normal(torch.zeros(x.shape[0]), 1.0), obs=x[:, 1])
            pyro.sample("first", dist.Normal(second, 1.0), obs=x[:, 0])

    def apart(x: Tensor) -> None:
        with pyro.plate("batch", x.shape[0]):
            pyro.sample("second", dist.Normal(torch.zeros(x.shape[0]), 1.0), obs=x[:, 1])
            pyro.sample("first", dist.Normal(torch.zeros(x.shape[0]), 1.0), obs=x[:, 0])

    rows = refused(chain, backwards)
    assert "'first' is drawn after" in rows and "'second'" in rows
    assert len(paired(chain, apart).compared) == 2


@pytest.mark.parametrize(
    ("match", "row"),
    [
        ({"w": "z"}, "'w'  | no such site; there is 'z', 'y'"),
        ({"z": "zz"}, "'zz' |         | no such site; there is 'z'"),
        ({"z": "y", "y": "y"}, "matched twice"),
    ],
)
def test_matches_name_sites(match: Any, row: str):
    assert row in refused(Model(), Model(), match=match)


def test_hostile_names_stay_on_their_line():
    name = "a\n| b"
    rows = refused(site(name, normal(2)), site("y", normal(2)))
    assert len(rows.splitlines()) == 3
