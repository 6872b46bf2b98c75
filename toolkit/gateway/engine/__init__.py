"""One model at a time, named by its file: loaded, asked, explained and set up over HTTP."""
