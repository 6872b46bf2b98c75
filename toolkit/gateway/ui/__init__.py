"""The gateway's own web page: what is served, what goes on, and a form to call a model."""
