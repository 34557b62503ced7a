"""Published algorithms to search with, and to be measured against; one file each."""

# Each registers itself.
from hwloop.search.baselines import age_moea2 as age_moea2
from hwloop.search.baselines import differential_evolution as differential_evolution
from hwloop.search.baselines import moead as moead
from hwloop.search.baselines import nsga2 as nsga2
from hwloop.search.baselines import nsga3 as nsga3
from hwloop.search.baselines import proposals as proposals
from hwloop.search.baselines import sms_emoa as sms_emoa
