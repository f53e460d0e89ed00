import { InputError } from "../errors.js";

const UNITS: Readonly<Record<string, number>> = { "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };

/** "5GB", "512 MiB" or "1000000" in bytes. Throws `InputError` naming the option. */
export function parseBytes(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match === null ? undefined : UNITS[match[2].toLowerCase()];
  if (match === null || unit === undefined) throw new InputError(`--${option} is ${JSON.stringify(text)}; give a size, as 5GB, 512MiB or a number of bytes`);
  return Math.floor(Number(match[1]) * unit);
}

export function formatBytes(bytes: number): string {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]] as const) {
    if (bytes >= size) return `${(bytes / size).toFixed(bytes < 10 * size ? 2 : bytes < 100 * size ? 1 : 0)} ${unit}`;
  }
  return `${String(bytes)} bytes`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${String(Math.floor(seconds / 60))} min ${String(Math.round(seconds) % 60)} s` : `${String(Math.floor(minutes / 60))} h ${String(minutes % 60)} min`;
}

/** 1234567 → "1,234,567". */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString("en-US");
}
