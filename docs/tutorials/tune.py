# %% [markdown]
# # tune
