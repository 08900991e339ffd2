/* Figures and times as people read them.

   Owns: rounding, units, words for what is not known. Never: the DOM. Times are seconds since the epoch and are
   shown in the reader's own time zone. */

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(value) {
  return value === null || value === undefined ? UNKNOWN : whole.format(value);
}

/** Requests per second: one decimal below 100. */
export function rate(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value > 0 && value < 100 ? value.toFixed(1) : whole.format(value);
}

export function percent(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const hundredths = value * 100;
  return `${hundredths > 0 && hundredths < 1 ? hundredths.toFixed(1) : whole.format(hundredths)} %`;
}

/** Milliseconds with the unit that suits them: three digits are all that anybody compares. */
export function latency(ms) {
  if (ms === null || ms === undefined) return UNKNOWN;
  if (ms < 0.9995) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  return ms < 9950 ? `${(ms / 1000).toFixed(2)} s` : `${(ms / 1000).toFixed(1)} s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value < 1e6 ? `${whole.format(value / 1e3)} kB` : `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB`;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minuteFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export function clock(time) {
  return clockFormat.format(time * 1000);
}

export function minute(time) {
  return minuteFormat.format(time * 1000);
}

export function iso(time) {
  return new Date(time * 1000).toISOString();
}

/** A length of time. */
export function lasting(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`;
}

export function ago(seconds) {
  return seconds < 1 ? "now" : `${lasting(seconds)} ago`;
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A figure of an event: whole if it is whole, otherwise with as many digits as matter. */
export function figure(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? whole.format(value) : String(Number(value.toPrecision(3)));
}

/** An average of counts: one decimal while that says something. */
export function mean(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value < 100 && !Number.isInteger(value) ? value.toFixed(1) : whole.format(value);
}
