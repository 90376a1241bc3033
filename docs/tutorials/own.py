# %% [markdown]
# # own
