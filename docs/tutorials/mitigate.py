# %% [markdown]
# # mitigate
