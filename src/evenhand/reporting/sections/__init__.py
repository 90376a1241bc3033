"""The sections of pages: each module registers the sections that it defines."""
