"""A report of what was measured: one HTML file that needs no network, pictures, a CSV table.

journals ─ studies.group ─ Study ─┬─ figures ─┬─ page.html
                                  │           └─ pictures (PNG)
                                  └─ columns (CSV)
"""

from perf.report.columns import csv_text, write_csv
from perf.report.figures import pictures
from perf.report.page import html
from perf.report.studies import Study, group
from perf.report.wording import sentence

__all__ = ["Study", "csv_text", "group", "html", "pictures", "sentence", "write_csv"]
