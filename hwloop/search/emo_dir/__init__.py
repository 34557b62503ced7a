"""EMO-DIR (Shang et al. 2023): divide a network, prune its parts by evolution, join them by the damage they do.

The paper's body was not available; what is known is its skeleton (division, training of the sub-networks under
cross-network constraints, evolutionary multi-objective pruning per part, joint pruning by global performance impairment
ranking). How each is done here is ours, and said where it is done.
"""

from hwloop.search.emo_dir.joint import JointPruning, Option, recipe, schemes
from hwloop.search.emo_dir.judge import PartJudge
from hwloop.search.emo_dir.sections import Sections
from hwloop.search.emo_dir.space import PartCosts, PartSpace, divide
from hwloop.search.emo_dir.training import PartTraining, train_parts

__all__ = [
    "JointPruning",
    "Option",
    "PartCosts",
    "PartJudge",
    "PartSpace",
    "PartTraining",
    "Sections",
    "divide",
    "recipe",
    "schemes",
    "train_parts",
]
