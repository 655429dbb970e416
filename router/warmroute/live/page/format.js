// Numbers as people read them. What is unknown is a dash.

const NONE = "–";
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? whole.format(Math.round(value)) : NONE);
export const compact = (value) => (known(value) ? short.format(value) : NONE);
export const rate = (value) => (!known(value) ? NONE : value >= 100 ? count(value) : value.toFixed(value && value < 1 ? 2 : 1));
export const percent = (value) => (known(value) ? `${(value * 100).toFixed(1)} %` : NONE);
export const ratio = (value) => (known(value) ? value.toFixed(2) : NONE);
export const number = (value) => (known(value) ? String(Number(value.toPrecision(4))) : NONE);

export function seconds(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0 ms";
  if (size < 5e-6) return "< 0.01 ms";
  if (size < 0.001) return `${(value * 1000).toFixed(2)} ms`;
  if (size < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (size < 0.9995) return `${(value * 1000).toFixed(0)} ms`;
  if (size < 10) return `${value.toFixed(2)} s`;
  return size < 100 ? `${value.toFixed(1)} s` : `${count(value)} s`;
}

export function duration(value) {
  if (!known(value)) return NONE;
  const s = Math.floor(value);
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const first = parts.findIndex(([size]) => size > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).map(([size, unit]) => `${size} ${unit}`).join(" ");
}

export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");

// A worker's URL without what all have in common.
export const host = (worker) => (worker ? worker.replace(/^http:\/\//, "") : NONE);
