"""The recipes that come with Gristmill. Each package is torch-free; its program module is not."""
