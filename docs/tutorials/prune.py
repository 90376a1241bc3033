# %% [markdown]
# # prune
