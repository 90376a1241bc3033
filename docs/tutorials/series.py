# %% [markdown]
# # series
