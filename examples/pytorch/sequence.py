"""An autoregressive model of words distilled word by word, on the teacher's own sentences: a chain of targets.

Kim & Rush 2016, arXiv:1606.07947, with the teacher's distribution in place of its best sentence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

import dgmcompile as dgm

WORDS, LENGTH = 20, 5
OPTIONS: dict[str, float] = {}


class Language(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, hidden)
        self.cell = nn.GRUCell(hidden, hidden)
        self.logits = nn.Linear(hidden, WORDS)

    def forward(self, first: Tensor) -> Tensor:
        word, state, sentence = first, torch.zeros(len(first), self.cell.hidden_size), [first]
        for t in range(1, LENGTH):
            state = self.cell(self.embedding(word), state)
            word = dgm.target(f"word_{t}", Categorical(logits=self.logits(state)))
            sentence.append(word)
        return torch.stack(sentence, -1)


def by_hand(teacher: Language, student: Language, first: Tensor, sentence: dict[str, Tensor]) -> Tensor:
    """The same loss as people write it, on a sentence of the teacher's."""
    words = [first, *(sentence[f"word_{t}"] for t in range(1, LENGTH))]
    ours, theirs = (torch.zeros(len(first), m.cell.hidden_size) for m in (teacher, student))
    total = torch.zeros(())
    for word in words[:-1]:
        ours = teacher.cell(teacher.embedding(word), ours)
        theirs = student.cell(student.embedding(word), theirs)
        wanted, found = (F.log_softmax(m.logits(s), -1) for m, s in ((teacher, ours), (student, theirs)))
        total = total + F.kl_div(found, wanted.detach(), reduction="batchmean", log_target=True)
    return total


model, student = Language(64), Language(8)
example_inputs = (torch.arange(8) % WORDS,)
