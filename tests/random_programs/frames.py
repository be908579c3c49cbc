"""What a random program is written into: its plates, its signature, and what it does first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Scope = frozenset[str]
GLOBAL: Scope = frozenset()


@dataclass(frozen=True)
class Layout:
    """The plates of a program: name -> (dim, size, constructor). ``declared`` says whether it has plates at all."""

    plates: dict[str, tuple[int, str, str]]
    declared: bool = True

    @property
    def scopes(self) -> list[Scope]:
        """Each set of plates, from the smallest."""
        found: list[Scope] = [GLOBAL]
        for name in self.plates:
            found += [scope | {name} for scope in found]
        return found

    def shape(self, scope: Scope, event: Sequence[int] = ()) -> str:
        """The sizes of a tensor of this scope."""
        sizes = {self.plates[name][0]: self.plates[name][1] for name in scope}
        dims = [sizes.get(dim, "1") for dim in range(min(sizes, default=0), 0)]
        return ", ".join([*dims, *map(str, event)])

    @property
    def data_dim(self) -> int:
        """Dim of the batch."""
        return self.plates["data"][0]

    def per_row(self, text: str, event: int) -> str:
        """A tensor with a leading dim for the batch, where the plate ``data`` is."""
        inserted = "".join(", None" for _ in range(-1 - self.data_dim))
        return f"{text}[:{inserted}]" if inserted and not event else f"{text}[:{inserted}, :]" if inserted else text


DATA = "len(x)"
LAYOUTS: tuple[tuple[int, Layout], ...] = (
    (
        6,
        Layout(
            {
                "data": (-2, DATA, 'pyro.plate("data", len(x), dim=-2)'),
                "inner": (-1, "2", 'pyro.plate("inner", 2, dim=-1)'),
            }
        ),
    ),
    (5, Layout({"data": (-1, DATA, 'pyro.plate("data", len(x))')})),
    (
        2,
        Layout(
            {
                "data": (-1, DATA, 'pyro.plate("data", x.shape[0], dim=-1)'),
                "outer": (-2, "2", 'pyro.plate("outer", 2, dim=-2)'),
            }
        ),
    ),
    (
        1,
        Layout(
            {
                "data": (-1, DATA, 'pyro.plate("data", 3 * len(x), subsample_size=len(x), dim=-1)'),
                "outer": (-2, "2", 'pyro.plate("outer", 5, subsample_size=2, dim=-2)'),
            }
        ),
    ),
    (
        1,
        Layout(
            {
                "data": (-3, DATA, 'pyro.plate("data", x.size(0), dim=-3)'),
                "inner": (-1, "2", 'pyro.plate("inner", 2, dim=-1)'),
            }
        ),
    ),
    (1, Layout({"data": (-1, DATA, "")}, declared=False)),
)

ARGUMENTS = "(torch.randn(n, 3), torch.rand(n) > 0.5)"
DATA_OF_Y = "torch.zeros(n, 3)"
FRAMES: tuple[tuple[int, bool, str], ...] = (
    (8, False, f"def model(x, m):\n    {{body}}\n\n\ndef example(n):\n    return {ARGUMENTS}, {{}}"),
    (
        2,
        True,
        f'def model(x, m, *, y=None):\n    {{body}}\n\n\ndef example(n):\n    return {ARGUMENTS}, {{"y": {DATA_OF_Y}}}',
    ),
    (
        1,
        True,
        f"def model(x, m, *, flag=True, y=None):\n    {{body}}\n\n\ndef example(n):\n    return {ARGUMENTS}, {{}}",
    ),
    (
        1,
        False,
        'def model(batch):\n    x, m = batch["x"], batch["m"]\n    {body}\n\n\n'
        f'def example(n):\n    x, m = {ARGUMENTS}\n    return ({{"x": x, "m": m}},), {{}}',
    ),
    (
        1,
        True,
        "def model(pair, y):\n    x, m = pair\n    {body}\n\n\n"
        f"def example(n):\n    return ({ARGUMENTS}, {DATA_OF_Y}), {{}}",
    ),
    (
        1,
        False,
        "def model(n):\n    x = torch.arange(3.0 * n).sin().reshape(n, 3)\n    m = torch.arange(n) % 2 > 0\n"
        "    {body}\n\n\n"
        "def example(n):\n    return (n,), {}",
    ),
    (
        1,
        False,
        "def general(factor, x, m):\n    x = factor * x\n    {body}\n\n\n"
        "model = functools.partial(general, <|0.5|0.6|>)\n\n\n"
        f"def example(n):\n    return {ARGUMENTS}, {{}}",
    ),
    (
        1,
        False,
        f"@poutine.scale(scale=2.0)\ndef model(x, m):\n    {{body}}\n\n\ndef example(n):\n    return {ARGUMENTS}, {{}}",
    ),
    (
        2,
        True,
        "class Model(PyroModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        for name, part in dict(globals()).items():\n"
        "            if isinstance(part, nn.Module):\n"
        "                setattr(self, name, part)\n\n"
        "    def forward(self, x, m, y=None):\n"
        "        {body}\n\n\n"
        "model = Model()\n\n\n"
        f'def example(n):\n    return {ARGUMENTS}, {{"y": {DATA_OF_Y}}}',
    ),
    (
        1,
        False,
        "class Owner(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.nets = nn.ModuleDict({k: v for k, v in globals().items() if isinstance(v, nn.Module)})\n"
        "        self.start = nn.Parameter(torch.tensor([<|0.1|0.3|>, -0.2, 0.4]))\n\n"
        "    def model(self, x, m):\n"
        "        x = x + self.start\n"
        "        {body}\n\n\n"
        "model = Owner().model\n\n\n"
        f"def example(n):\n    return {ARGUMENTS}, {{}}",
    ),
)
"""(weight, takes it data ``y``, text)"""

PROLOGUES = (
    (12, ""),
    (1, "x, m = torch.cat([x, -x]), torch.cat([m, ~m])"),
    (1, "x, m = x[:, None].expand(-1, 2, -1).reshape(-1, 3), m.repeat_interleave(2)"),
    (1, "x = x.reshape(-1).view(x.shape[0], -1)[:, :3]"),
)
"""What makes the batch another size than the argument's."""

LAYERS = (
    "nn.Linear(3, 3)",
    "nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))",
    "nn.LayerNorm(3)",
    "nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Dropout(0.5).eval())",
    "nn.Sequential(nn.Linear(3, 3, bias=False), nn.Softplus())",
)
