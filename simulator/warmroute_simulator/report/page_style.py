"""How a page looks: one style sheet, for screens light and dark, for phones and for paper.

Series take the colours of Okabe and Ito ("Color Universal Design", 2008), which stay apart for colour-blind
eyes; they are lightened for a dark ground. Nothing is loaded: type is what the reader's system has.
A class that stands for a colour (`s0`, `reused`) sets `--c`, and marks, swatches and areas use it.
"""

from __future__ import annotations

from typing import Final

SERIES: Final = 7
"""Colours before they come round again."""

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #fcfbf9; --raised: #fff; --ink: #1d2126; --soft: #5c646e; --faint: #8b929b; --line: #e6e3de;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b8559a; --s4: #c98a00; --s5: #2f9fd8; --s6: #6b6f76;
  --reused: #3aa588; --first: #d3d6db; --evicted: #e5993f; --elsewhere: #c3a0d2; --forgotten: #9db4d8;
  --in-bar: #14171a;
  --running: #3b8fc4; --waiting: #e5993f; --used: #55616d; --cached: #dcdfe3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181c; --raised: #1b1f24; --ink: #e8eaed; --soft: #a6aeb8; --faint: #7d8590; --line: #2a2f36;
    --s0: #5cb3ea; --s1: #ff8f4d; --s2: #3fcf9f; --s3: #e79acb; --s4: #f2c14e; --s5: #9bd9ff; --s6: #b4bac2;
    --reused: #2b8f73; --first: #434a54; --evicted: #b8742a; --elsewhere: #86629b; --forgotten: #4f6b97;
    --in-bar: #f4f5f6;
    --running: #3f8fc0; --waiting: #d68a36; --used: #93a0ad; --cached: #353c45;
  }
}
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); }
.reused { --c: var(--reused); } .first { --c: var(--first); } .evicted { --c: var(--evicted); }
.elsewhere { --c: var(--elsewhere); } .forgotten { --c: var(--forgotten); }
.running { --c: var(--running); } .waiting { --c: var(--waiting); }
.used { --c: var(--used); } .cached { --c: var(--cached); } .ceiling { --c: var(--line); }

* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink); text-rendering: optimizeLegibility;
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 1120px; margin: 0 auto; padding: 4rem 1.5rem 5rem; }
header { max-width: 46rem; }
section { margin-top: 4.5rem; }
section > p { margin: 0 0 1.5rem; max-width: 46rem; color: var(--soft); font-size: .95rem; }
h1 { margin: .25rem 0 1.25rem; font-size: 1.35rem; font-weight: 600; line-height: 1.3; }
h2 { margin: 0 0 .35rem; font-size: 1.15rem; font-weight: 650; }
h3 { margin: 2rem 0 .75rem; font-size: .95rem; font-weight: 600; }
h3 span, figcaption span { color: var(--soft); font-weight: 400; }
h1, h3, .workers figcaption { overflow-wrap: anywhere; }
.eyebrow { margin: 0; color: var(--faint); font-size: .8rem; letter-spacing: .08em;
  text-transform: uppercase; }
.lead { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.45; letter-spacing: -.01em; }
.lead b { font-weight: 650; }
.facts { margin: 0 0 .25rem; color: var(--soft); font-size: .9rem; }
.warning { padding: .75rem 1rem; border-left: 3px solid var(--waiting); background: var(--raised); }

i { display: inline-block; width: .75em; height: .75em; margin-right: .5em; border-radius: 2px;
  background: var(--c); }
.legend { display: flex; flex-wrap: wrap; gap: .35rem 1.4rem; margin: 0 0 1.25rem; padding: 0;
  list-style: none; color: var(--soft); font-size: .875rem; }
.plots { display: grid; gap: 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.plots.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.workers { display: grid; gap: 1.25rem 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(45%, 118px), 1fr)); }
.workers figure { max-width: 300px; }
.workers figcaption { margin-bottom: .3rem; font-size: .72rem; font-weight: 500; line-height: 1.4; }
.workers svg + svg { margin-top: 3px; }
figure { margin: 0; max-width: 560px; break-inside: avoid; }
figcaption { margin-bottom: .5rem; font-size: .9rem; font-weight: 600; }

svg { display: block; width: 100%; height: auto; overflow: visible; font-size: 12.5px; }
svg text { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .axis-label { fill: var(--faint); }
svg .edge { font-size: 12px; }
svg .in-bar { fill: var(--in-bar); font-size: 12px; }
svg .strong { fill: var(--ink); font-weight: 600; }
path { fill: none; }
.line { stroke: var(--c, var(--ink)); stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.area, .bar { fill: var(--c); }
.dot { fill: var(--c); stroke: var(--ground); }
.mark { stroke-linecap: butt; stroke-width: 1.6; }
.grid { stroke: var(--line); }
.axis { stroke: var(--faint); }
.rule { stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 4 3; }
.hover { fill: transparent; }
.hover:hover { fill: var(--ink); fill-opacity: .07; }

.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .9rem .5rem 0; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
th { color: var(--soft); font-size: .82rem; font-weight: 500; vertical-align: bottom; }
th:first-child, td:first-child, .text { text-align: left; }
small { color: var(--faint); font-size: .85em; }
.best { font-weight: 650; }
.explained td { border-bottom: 0; }
td.why { padding: 0 0 .9rem; white-space: normal; }
summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
details > div { position: sticky; left: 0; max-width: min(30rem, calc(100vw - 2rem));
  padding: 1rem 0 .25rem; }
footer { margin-top: 5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
dl { display: grid; gap: .3rem 1.5rem; grid-template-columns: max-content 1fr; margin: 0 0 1.5rem; }
dt { font-weight: 600; }
dd { margin: 0; max-width: 44rem; }

@media (max-width: 640px) {
  main { padding: 2rem 1rem 3rem; }
  section { margin-top: 3rem; }
  .lead { font-size: 1.2rem; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .5rem; }
}
@media print {
  :root { --ground: #fff; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 11px; }
  main { max-width: none; padding: 0; }
  section { margin-top: 2rem; }
  h2, h3, .legend, section > p { break-after: avoid; }
  tr, section > p { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: .8rem; }
  .plots { gap: 1.25rem; grid-template-columns: repeat(3, 1fr); }
  .plots.two { grid-template-columns: repeat(2, 1fr); }
  .workers { grid-template-columns: repeat(8, 1fr); }
}
""".strip()
