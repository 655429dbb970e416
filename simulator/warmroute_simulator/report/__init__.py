"""From what a simulation left behind to numbers, tables, files and a page.

    latencies     TTFT, TPOT and E2E of each request; mean and quantiles of many
    summary       Records → Report: what `--json` writes
    words         how numbers are written for people: "0.92 s", "34.1 %", "1.2M"
    table         one report, or several side by side, on a terminal
    requests_csv  a row for each request: `--csv`
    curves        Records → Curves: what the page draws, a few dozen kilobytes however long the run was
    comparison    several runs that differ in one thing: intervals over seeds, points of a sweep
    page          Reports and Curves → one HTML file: `--html`; its parts: sections, plots, svg, page_style
    progress      a bar on stderr for what takes longer than a second

Nothing here simulates; everything is computed from `simulation.records.Records`.
"""
