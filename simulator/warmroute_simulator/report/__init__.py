"""From what a simulation left behind to numbers, tables, files and a page.

    latencies     TTFT, TPOT and E2E of each request; mean and quantiles of many
    model         Report: what `--json` writes, and what everything else here shows
    summary       Records → Report
    words         how numbers are written for people: "0.92 s", "34.1 %", "3.46M"
    table         one report on a terminal
    comparison    several runs that belong together: intervals over seeds, differences, points of a sweep
    columns       the numbers that runs are compared by
    comparison_table   these on a terminal
    requests_csv  a row for each request: `--csv`
    progress      a bar on stderr for what takes longer than a second
    curves        Records → Curves: what a page draws, some tens of kilobytes however long the run was
    page          Reports and Curves → one HTML file: `--html`
        overview, sections, slowest   its parts
        plots, small_plots            what they draw
        axes, svg, markup, page_style how that is written

Nothing here simulates; everything is computed from `simulation.records.Records`. Importing this package, or
any module of it but the tables, loads nothing heavy.
"""
