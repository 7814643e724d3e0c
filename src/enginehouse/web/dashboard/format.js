// Numbers and words as people read them. Owns units and roundings. May not live here: elements.

const WHOLE = new Intl.NumberFormat("en");
export const NONE = "–";

const absent = (value) => value === null || value === undefined || Number.isNaN(value);

/** 12345 → "12,345". */
export function count(value) {
  return absent(value) ? NONE : WHOLE.format(Math.round(value));
}

/** A number in little room: 0.42, 7.1, 128, 12.3k, 4.5M. */
export function short(value) {
  if (absent(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(size < 1e10 ? 1 : 0) + "G";
  if (size >= 1e6) return (value / 1e6).toFixed(size < 1e7 ? 1 : 0) + "M";
  if (size >= 1e4) return (value / 1e3).toFixed(size < 1e5 ? 1 : 0) + "k";
  if (size >= 100 || Number.isInteger(value)) return WHOLE.format(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : size >= 0.995 ? 1 : 2);
}

/** Seconds: "230 ms", "2.41 s", "1 m 20 s", "3 h 5 m", "4 d". */
export function seconds(value) {
  if (absent(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 0.0995) return (value * 1000).toFixed(value < 0.00995 ? 1 : 0) + " ms";
  if (value < 0.9995) return Math.round(value * 1000) + " ms";
  if (value < 9.995) return value.toFixed(2) + " s";
  if (value < 60) return value.toFixed(1) + " s";
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export const milliseconds = (value) => (absent(value) ? NONE : seconds(value / 1000));

/** 0.873 → "87%". */
export function share(value) {
  if (absent(value)) return NONE;
  return (value * 100).toFixed(value > 0 && value < 0.0995 ? 1 : 0) + "%";
}

/** Unix seconds → "14:03:59", in the reader's time zone. */
export function clock(time) {
  if (absent(time)) return NONE;
  const date = new Date(time * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** Unix seconds → the whole date, for a tooltip. */
export const moment = (time) => (absent(time) ? "" : new Date(time * 1000).toLocaleString());

export const many = (number, one, several = one + "s") => `${count(number)} ${number === 1 ? one : several}`;
