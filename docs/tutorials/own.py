# %% [markdown]
# # Your own network and loop
#
# The engines behind the commands are functions of modules, arrays and callables. This is a small
# network in plain PyTorch, with its data and its loop. The data are vectors; in group `b` they
# contain less information about the disease.

# %%
import numpy as np
import torch
from torch import nn

import evenhand

torch.manual_seed(0)
rng = np.random.default_rng(0)


def draw(n):
    group = rng.choice(["a", "b"], n, p=[0.7, 0.3])
    label = rng.integers(2, size=n)
    strength = np.where(group == "a", 1.2, 0.6)
    x = rng.normal(size=(n, 12)) + (strength * (2 * label - 1))[:, None] * (np.arange(12) < 3)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(label), group


def make(seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
    return nn.Sequential(*layers)


def fit_one_epoch(network, parameters, lr=3e-3):
    optimizer = torch.optim.AdamW(parameters, lr)
    for rows in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()


def scores(network, inputs):
    with torch.no_grad():
        return network.eval()(inputs).softmax(1)[:, 1].numpy()


(x, y, group), (x_val, y_val, group_val) = draw(1500), draw(800)

# %% [markdown]
# ## Numbers by group

# %%
network = make()
for _ in range(3):
    fit_one_epoch(network.train(), network.parameters())
table = evenhand.measure_groups(y_val, scores(network, x_val), {"group": group_val})
table

# %% [markdown]
# ## Which layers should be trained?
#
# `units_of` divides any network into units. `search_masks` calls your loop with some of them, and
# compares the results by a target across groups. `train` yields validation scores after each
# epoch, so that bad trials stop early.

# %%
units = evenhand.units_of(make())
print([unit.name for unit in units])


def train(choice):
    network = make(choice.seed)  # the best masks are trained again with fresh seeds
    evenhand.tune_only(network, choice.units)  # freezes all other units
    tuned = [p for p in network.parameters() if p.requires_grad]
    for _ in range(3):
        fit_one_epoch(network.train(), tuned, choice.lr)
        yield scores(network, x_val)


search = evenhand.search_masks(
    train, units, y_true=y_val, groups={"group": group_val}, target="auc_worst", trials=6, confirm=1
)
search

# %% [markdown]
# The same patients chose the mask and measure it, so the value is too optimistic: test the network
# on other patients.
#
# ## Prune what only the better served group needs

# %%
batches = [(x[i : i + 100], y[i : i + 100], group[i : i + 100]) for i in range(0, len(x), 100)]


def worst_auc(network):
    rows = evenhand.measure_groups(
        y_val, scores(network, x_val), {"group": group_val}, replicates=100
    ).frame
    return float(rows.loc[rows["metric"] == "auc_worst", "value"].iloc[0])


pruned = evenhand.prune_module(
    network, batches, worst_auc, unprivileged="b", betas={"a": 0.3}, budget=0.01, limit=40
)
zeros = sum(int((p == 0).sum()) for p in pruned.module.parameters())
print(f"{zeros} weights are 0; worst group's AUC {worst_auc(network):.3f} before", end=", ")
print(f"{worst_auc(pruned.module):.3f} after")

# %% [markdown]
# ## Do the two networks represent the groups similarly?

# %%
evenhand.compare_layers(network, pruned.module, batches, group)

# %% [markdown]
# The guide on [your own network, data and loop](../guides/own.md) lists all engines.
