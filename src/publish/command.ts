import { BUILTIN_ORIGIN } from "../calibration/calibration-set.js";
import type { Report } from "../report/report.js";

/** The options of `quantize` by what the report calls them, in the order in which they are written. */
const OPTIONS: readonly { readonly key: string; readonly option: string; readonly kind: "value" | "flag" | "list" }[] = [
  { key: "method", option: "method", kind: "value" },
  { key: "bits", option: "bits", kind: "value" },
  { key: "target bits", option: "target-bits", kind: "value" },
  { key: "bits for", option: "bits-for", kind: "list" },
  { key: "keep", option: "keep", kind: "list" },
  { key: "lm_head", option: "lm-head", kind: "value" },
  { key: "embeddings", option: "embeddings", kind: "value" },
  { key: "group size", option: "group-size", kind: "value" },
  { key: "format", option: "format", kind: "value" },
  { key: "symmetric", option: "sym", kind: "flag" },
  { key: "k-quant", option: "k-quant", kind: "flag" },
  { key: "order", option: "order", kind: "value" },
  { key: "search", option: "search", kind: "flag" },
  { key: "refine", option: "refine", kind: "value" },
  { key: "awq", option: "awq", kind: "flag" },
  { key: "retarget", option: "retarget", kind: "flag" },
  { key: "damp", option: "damp", kind: "value" },
  { key: "shrink", option: "shrink", kind: "value" },
  { key: "samples", option: "samples", kind: "value" },
  { key: "sequence length", option: "sequence-length", kind: "value" },
  { key: "seed", option: "seed", kind: "value" },
];
const OPTIONS_A_LINE = 6;

/**
 * The command that makes this checkpoint again. Every option is said, so that it holds when defaults change; paths on the machine where it
 * was made are nobody's business: of them the last part is left.
 */
export function commandOf({ run, source, hub, calibration, converted }: Report): string {
  const also = run["also in"] === undefined ? [] : String(run["also in"]).split(" ");
  const made: Report["run"] = { ...run, format: [converted?.format ?? String(run["format"]), ...also].join(",") };
  const folder = run["method"] === undefined ? lastPart(source) : "quantized";
  const conversion = converted === undefined || also.includes(String(run["format"])) ? [] : [`npx shardsmith convert ${quoted(folder)} --format ${String(run["format"])} -o converted`];
  // Another program's doing is not ours to repeat.
  if (run["method"] === undefined) return conversion.join("");
  const options = OPTIONS.flatMap(({ key, option, kind }) => {
    const value = made[key];
    if (value === undefined) return [];
    if (kind === "flag") return [value === true ? `--${option}` : `--no-${option}`];
    return (kind === "list" ? String(value).split(" ") : [String(value)]).map((one) => `--${option} ${quoted(one)}`);
  });
  // For a model on the Hub it is not the default.
  if (calibration?.origin === BUILTIN_ORIGIN && hub !== undefined) options.push("--calibration builtin");
  else if (calibration !== undefined && calibration.origin !== BUILTIN_ORIGIN) options.push(`--calibration ${quoted(calibrationNameOf(calibration))}`);
  const lines = Array.from({ length: Math.ceil(options.length / OPTIONS_A_LINE) }, (_, i) => options.slice(i * OPTIONS_A_LINE, (i + 1) * OPTIONS_A_LINE).join(" "));
  const command = [`npx shardsmith quantize ${quoted(hub === undefined ? lastPart(source) : `${hub.repo}@${hub.commit}`)} -o quantized`, ...lines].join(" \\\n  ");
  return [command, ...conversion].join("\n");
}

/** What it was calibrated on, without the folders that files lay in. */
export function calibrationNameOf({ origin, parts }: NonNullable<Report["calibration"]>): string {
  return parts?.map((part) => withoutFolders(part.origin)).join(",") ?? withoutFolders(origin);
}

/** The last part of what is a path on somebody's machine; anything else, as a data set of the Hub, as it is. */
export function withoutFolders(text: string): string {
  return /^(?:[./~\\]|[a-z]:[\\/])|\\/i.test(text) ? lastPart(text) : text;
}

/** A file's or folder's name without those it lies in. */
export function lastPart(path: string): string {
  return path.split(/[\\/]/).filter((part) => part !== "" && part !== ".").at(-1) ?? path;
}

/** As a POSIX shell takes it. */
function quoted(text: string): string {
  return /^[\w./:@=,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
