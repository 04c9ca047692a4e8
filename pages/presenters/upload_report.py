"""What was found in an upload: counts, problems, columns and a preview, as escaped HTML."""

from html import escape

from pages.components.plain import markup_table, plain
from pages.presenters.datasets import rows_html
from seqmatch.ingest import UploadReport
from seqmatch.ingest.codes import PROBLEM_CODES
from seqmatch.ingest.report import FORMATS
from seqmatch.types import Demonstration

ALL_FIELDS = tuple(
    dict.fromkeys(name for info in FORMATS.values() for name in (*info.required, *info.optional))
)
"""Every part of a row that a column can be chosen for, whatever the format."""

_SHOWN_PROBLEMS = 200


def fields_of(form: str) -> tuple[str, ...]:
    """Returns the parts of a row that this format takes from columns."""
    info = next(info for name, info in FORMATS.items() if name == form)
    return (*info.required, *info.optional)


def report_html(report: UploadReport) -> str:
    """Returns the counts, then every problem with file, line, column, sentence and excerpt."""
    return f"{_verdict(report)}{_summary(report)}{_problems(report)}"


def preview_html(rows: list[Demonstration], total: int) -> str:
    """Returns the first rows as they will be trained on."""
    if not rows:
        return ""
    return f"<h4>First rows as they were read</h4>{rows_html(rows, 0, total)}"


def accept_label(report: UploadReport) -> str:
    """Returns what accepting means, in numbers: "Use 812 of 820 rows"."""
    if report.num_usable == report.num_rows_read:
        return f"Use all {report.num_usable:,} rows"
    return f"Use {report.num_usable:,} of {report.num_rows_read:,} rows"


def _verdict(report: UploadReport) -> str:
    if report.num_usable == 0:
        return plain("⚠ No row of this upload can be used. What was found is below.", "problem")
    refused = report.num_rows_read - report.num_usable
    if refused:
        return plain(
            f"{report.num_usable:,} of {report.num_rows_read:,} rows can be used; {refused:,} "
            "cannot, for the reasons below.",
            "problem",
        )
    return plain(f"All {report.num_usable:,} rows can be used.", "good")


def _summary(report: UploadReport) -> str:
    if not report.counts:
        return ""
    rows = [
        [f'<span class="code">{escape(code)}</span>', escape(_meaning(code)), f"{count:,}"]
        for code, count in sorted(report.counts.items())
    ]
    return markup_table(("Code", "What it means", "Times"), rows, "Findings", ("", "", "number"))


def _problems(report: UploadReport) -> str:
    if not report.problems:
        return ""
    rows = [
        [
            f'<span class="code">{escape(one.code)}</span>',
            escape(one.file),
            f"{one.line:,}" if one.line else "",
            escape(one.column or ""),
            escape(one.message),
            f'<span class="code" dir="auto">{escape(one.excerpt)}</span>' if one.excerpt else "",
        ]
        for one in report.problems[:_SHOWN_PROBLEMS]
    ]
    headers = ("Code", "File", "Line", "Column", "What was found", "Excerpt")
    table = markup_table(headers, rows, "Problems", ("", "", "number", "", "", ""), as_cards=True)
    hidden = len(report.problems) - len(rows)
    more = plain(f"… and {hidden:,} more of these.") if hidden > 0 else ""
    count = f"{len(report.problems):,} place{'' if len(report.problems) == 1 else 's'}"
    is_open = " open" if len(rows) <= 12 else ""
    return f"<details{is_open}><summary>{count} in detail</summary>{table}{more}</details>"


def _meaning(code: str) -> str:
    known = PROBLEM_CODES.get(code)
    return known.sentence if known else ""
