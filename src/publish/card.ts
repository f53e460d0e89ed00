import { Document, isCollection } from "yaml";
import type { LinearPlan } from "../formats/format.js";
import { formatByName, FORMATS } from "../formats/formats.js";
import { verdictsOf } from "../formats/verdicts.js";
import { FAMILIES } from "../model/families/families.js";
import { BITS, type Bits } from "../quantize/scheme.js";
import type { LinearReport, Report } from "../report/report.js";
import { calibrationNameOf, commandOf, lastPart, withoutFolders } from "./command.js";
import { nodeOf, parseFrontMatter, splitCard, textsIn } from "./front-matter.js";
import { LOADING } from "./loading.js";

/** The card's name in a repo or folder. */
export const CARD_FILE = "README.md";

/** What `shardsmith eval` measured; its result is one. */
export interface CardEvaluation {
  readonly text: string;
  readonly sequenceLength: number;
  /** Predicted tokens. */
  readonly tokens: number;
  readonly perplexity: number;
  readonly perplexityError: number;
  readonly against?: {
    readonly perplexity: number;
    readonly perplexityError: number;
    readonly klDivergence: number;
    readonly klDivergenceError: number;
    /** 0 … 1. */
    readonly top1Agreement: number;
  };
}

export interface CardInput {
  readonly report: Report;
  /** config.json of the quantized checkpoint. */
  readonly config: Readonly<Record<string, unknown>>;
  /** `org/name` to which it is published. Absent: it lies in a folder. */
  readonly repo?: string;
  /** The original's README.md, of which licence, language and task are inherited. */
  readonly sourceCard?: string;
  /** The card that stands where this one will: what a person wrote in it stays. */
  readonly existing?: string;
  /** Of this very checkpoint. */
  readonly evaluation?: CardEvaluation;
}

const BEGIN = "<!-- shardsmith: begin. Shardsmith writes what stands between this comment and the next, and writes it anew; your own text goes before or behind. -->";
const END = "<!-- shardsmith: end -->";

/**
 * The README.md of a quantized checkpoint: front matter for the Hub, how to load it, how it was made, and what was measured. The same input
 * gives the same text. Of a card that stands, keys of the front matter and all text outside our two comments stay as they are.
 */
export function modelCard(input: CardInput): string {
  const { yaml, text } = splitCard(input.existing ?? "");
  const baseModel = input.report.hub?.repo ?? baseModelIn(yaml);
  const [before, behind] = around(text);
  // One title is enough.
  const titled = !/^# /m.test(before) && !/^# /m.test(behind);
  const known = { ...input, baseModel };
  return `---\n${frontMatter(known, yaml).replace(/\n*$/, "\n")}---\n${before}${BEGIN}\n\n${bodyOf(known, titled)}\n\n${END}${behind}`;
}

/** What a person wrote in a card: all of its text but the part that is ours. */
export function ownText(card: string): string {
  return around(splitCard(card).text).join("").trim();
}

/** What stands before and behind our part; before it all, where there is none. */
function around(text: string): [before: string, behind: string] {
  const end = text.indexOf(END);
  const begin = end < 0 ? -1 : text.lastIndexOf(BEGIN, end);
  if (begin >= 0) return [text.slice(0, begin), text.slice(end + END.length)];
  return [text.trim() === "" ? "\n" : text.replace(/\n*$/, "\n\n"), "\n"];
}

/** A card's input, and `org/name` of the original on the Hub, if that is where it came from. */
type KnownInput = CardInput & { readonly baseModel: string | undefined };

/** The original, as the card that stands has it. */
function baseModelIn(yaml: string | undefined): string | undefined {
  const document = yaml === undefined ? undefined : parseFrontMatter(yaml);
  const name = textsIn(document, "base_model");
  return typeof name === "string" && textsIn(document, "base_model_relation") === "quantized" ? name : undefined;
}

const INHERITED = ["license", "license_name", "license_link", "language", "pipeline_tag", "library_name"];

function frontMatter(input: KnownInput, existing: string | undefined): string {
  const document = existing === undefined ? new Document({}) : parseFrontMatter(existing);
  // What we cannot read is not ours to change.
  if (document === undefined) return existing!;
  const { baseModel, sourceCard, config } = input;
  const source = sourceCard === undefined ? undefined : parseFrontMatter(splitCard(sourceCard).yaml ?? "");
  const wanted = new Map<string, unknown>(INHERITED.map((key) => [key, textsIn(source, key)]));
  if (baseModel !== undefined) wanted.set("base_model", baseModel).set("base_model_relation", "quantized");
  if (isCausal(config)) {
    if (wanted.get("pipeline_tag") === undefined) wanted.set("pipeline_tag", "text-generation");
    if (wanted.get("library_name") === undefined) wanted.set("library_name", "transformers");
  }
  const library = FORMATS.find(({ name }) => name === input.report.run["format"])?.library;
  if (library !== undefined) wanted.set("library_name", library);
  wanted.set("quantized_by", "shardsmith");
  for (const [key, value] of wanted) if (value !== undefined && !document.has(key)) document.set(key, nodeOf(document, value));
  setTags(document, tagsOf(input.report));
  return document.toString({ lineWidth: 0 });
}

/** Our tags, for those that we wrote before; a person's own stay. */
function setTags(document: Document, tags: readonly string[]): void {
  const found = document.get("tags");
  const standing = isCollection(found) ? textsIn(document, "tags") : undefined;
  // Something else than a list of tags is a person's.
  if (found !== undefined && found !== null && standing === undefined) return;
  const own = new Set([...FORMATS.map(({ name }) => name), ...BITS.map(bitsTag)]);
  const others = (standing ?? []) as readonly string[];
  document.set("tags", nodeOf(document, [...others.filter((tag) => !own.has(tag)), ...tags]));
}

function tagsOf(report: Report): string[] {
  return [String(report.run["format"]), ...bitsOf(report).map(bitsTag)];
}

function bitsTag(bits: number): string {
  return `${String(bits)}-bit`;
}

/** Numbers of bits that there are, the largest first. */
function bitsOf({ linears }: Report): number[] {
  return [...new Set(linears.flatMap(({ quantized }) => (quantized ? [quantized.bits] : [])))].sort((a, b) => b - a);
}

function isCausal(config: CardInput["config"]): boolean {
  const { architectures } = config;
  return Array.isArray(architectures) && architectures.some((name) => String(name).endsWith("ForCausalLM"));
}

function bodyOf(input: KnownInput, titled: boolean): string {
  const { report, repo, baseModel } = input;
  const original = baseModel ?? lastPart(report.source);
  const name = repo?.replace(/^.*\//, "") ?? `${original.replace(/^.*\//, "")}, quantized`;
  const from = baseModel === undefined ? code(original) : `[${baseModel}](https://huggingface.co/${baseModel})`;
  const { format } = report.run;
  return [
    ...(titled ? [`# ${plain(name)}`] : []),
    `${from} with its linear layers in ${list(bitsOf(report).map(String))} bits, ${groups(report)}, in the \`${String(format)}\` format: ${megabytes(report.sourceBytes)} became ${megabytes(report.bytes)}.`,
    "## How to load it", loading(input),
    "## How it was made", making(report),
    "## What was measured", measures(input),
    ...warnings(report),
    `Made with Shardsmith ${report.shardsmith}. ${isOurs(report) ? "Every linear's error is" : "All linears are"} in \`shardsmith.json\`.`,
  ].join("\n\n");
}

/** Whether Shardsmith made the codes as well, or has only converted them. */
function isOurs({ run }: Report): boolean {
  return run["method"] !== undefined;
}

function groups({ run }: Report): string {
  const size = run["group size"];
  return size === -1 ? "one scale a row" : `in groups of ${String(size)}`;
}

function loading({ report, config, repo }: CardInput): string {
  const format = String(report.run["format"]);
  const symmetric = report.run["symmetric"] !== false;
  const known = FAMILIES.has(String(config["model_type"]));
  const verdicts = verdictsOf(formatByName(format), report.linears.map((linear) => planOf(linear, symmetric)), known);
  const loaded = { id: repo ?? "path/to/this/folder", onHub: repo !== undefined, format, symmetric };
  const others = verdicts.filter(({ loads }) => loads !== "yes").map(({ program, loads, why }) =>
    `- ${program} ${loads === "no" ? "does not load it" : "may not load it"}: ${why.join("; ")}.`);
  return [
    ...verdicts.filter(({ loads }) => loads === "yes").map(({ program }) => `### ${program}\n\n${LOADING[program](loaded)}`),
    ...(others.length > 0 ? [others.join("\n")] : []),
  ].join("\n\n");
}

function planOf({ name, outFeatures, inFeatures, quantized }: LinearReport, symmetric: boolean): LinearPlan {
  // In which dtype scales are is nothing that a program asks for.
  return { name, outFeatures, inFeatures, ...(quantized && { scheme: { bits: quantized.bits as Bits, groupSize: quantized.groupSize, symmetric, scaleDtype: "F16" as const } }) };
}

function making(report: Report): string {
  const { calibration, run, engine, shardsmith } = report;
  const rows: [string, string][] = !isOurs(report) ? [["method", "quantized by another program"], ["Shardsmith", shardsmith]] : [
    ["method", run["method"] === "rtn" ? "round to nearest" : gptqText(run)],
    ["calibration", calibration === undefined ? "none" : `${plain(calibrationNameOf(calibration))}: ${count(calibration.tokens)} tokens in ${count(calibration.sequences)} sequences, seed ${String(run["seed"])}`],
    ...dataSetsOf(calibration).map(({ origin, repo, commit }): [string, string] => ["", `${plain(origin)} is data set ${plain(repo)}, commit ${plain(commit)}`]),
    ["Shardsmith", shardsmith],
    ["computed by", plain(engine)],
  ];
  return `\`\`\`sh\n${commandOf(report)}\n\`\`\`\n\n${markdownTable(["", ""], rows)}`;
}

function dataSetsOf(calibration: Report["calibration"]): { readonly origin: string; readonly repo: string; readonly commit: string }[] {
  return calibration?.parts?.flatMap(({ origin, dataSet }) => (dataSet === undefined ? [] : [{ origin, ...dataSet }])) ?? [];
}

function gptqText(run: Report["run"]): string {
  const parts = [
    run["search"] === true ? "scales searched for" : undefined, run["awq"] === true ? "activation-aware scales where they help" : undefined,
    Number(run["refine"]) > 0 ? `${String(run["refine"])} sweeps of refinement` : undefined, run["retarget"] === true ? "aimed at the original's activations" : undefined,
  ].filter((part) => part !== undefined);
  return `GPTQ, order ${String(run["order"])}, damping ${String(run["damp"])}${parts.map((part) => `; ${part}`).join("")}`;
}

function measures({ report, evaluation }: CardInput): string {
  const size = [["size of the weights", megabytes(report.sourceBytes), megabytes(report.bytes)], ["bits a quantized weight, scales and all", "", report.bitsPerWeight.toFixed(2)]];
  const rows = [...size, ...(evaluation === undefined ? [] : evaluated(evaluation))];
  const how = evaluation === undefined
    ? "Neither perplexity nor KL divergence was measured."
    : `On ${plain(withoutFolders(evaluation.text))}: ${count(evaluation.tokens)} predicted tokens in windows of ${count(evaluation.sequenceLength)}; ± is one standard error.`;
  const worst = report.linears.flatMap(({ name, quantized }) => (quantized?.relativeError === undefined ? [] : [{ name, bits: quantized.bits, relativeError: quantized.relativeError }])).sort((a, b) => b.relativeError - a.relativeError).slice(0, WORST);
  const calibrated = report.calibration !== undefined;
  return [
    markdownTable(isOurs(report) ? ["", "original", "quantized"] : ["", "before", "after"], rows), how,
    ...(worst.length === 0 ? [] : [
      `The linears with the largest errors, as a share of ${calibrated ? "their outputs' energy on the calibration text" : "their weights' energy"}:`,
      markdownTable(["linear", "bits", "error"], worst.map(({ name, bits, relativeError }) => [code(name), String(bits), relativeError.toExponential(2)])),
    ]),
  ].join("\n\n");
}

/** Linears in the table of the worst. */
const WORST = 5;

function evaluated({ perplexity, perplexityError, against }: CardEvaluation): string[][] {
  const plusMinus = (value: number, error: number): string => `${value.toFixed(4)} ± ${error.toFixed(4)}`;
  return [
    ["perplexity", against ? plusMinus(against.perplexity, against.perplexityError) : "", plusMinus(perplexity, perplexityError)],
    ...(against ? [
      ["KL divergence, nats a token", "", plusMinus(against.klDivergence, against.klDivergenceError)],
      ["same most likely token", "", `${(100 * against.top1Agreement).toFixed(1)} %`],
    ] : []),
  ];
}

/** What came out worse than it should, by name: a promise of Shardsmith's. */
function warnings({ warnings: all, linears }: Report): string[] {
  const kept = linears.filter(({ quantized }) => quantized === undefined);
  const told = [
    ...all.map((warning) => `- ${plain(warning)}`),
    ...(kept.length > 0 ? [`- ${count(kept.length)} of ${count(linears.length)} linears stay as they were; \`shardsmith.json\` says which and why.`] : []),
  ];
  const shown = told.length > MOST_WARNINGS ? [...told.slice(0, MOST_WARNINGS), `- ${count(told.length - MOST_WARNINGS)} more are in \`shardsmith.json\`.`] : told;
  return told.length > 0 ? ["## What to know", shown.join("\n")] : [];
}

const MOST_WARNINGS = 10;

function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map(() => "---|").join("")}`, ...rows.map(line)].join("\n");
}

/** Text that came from elsewhere: it begins no table cell, tag or link of its own. */
function plain(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll(/[\\`*[\]<>|]/g, "\\$&");
}

function code(text: string): string {
  return `\`${text.replaceAll(/\s+/g, " ").replaceAll(/[`|]/g, "?")}\``;
}

function list(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)!}`;
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 2 : 0)} MB`;
}
