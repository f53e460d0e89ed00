import type { LinearPlan } from "./format.js";

/** Linears that are treated alike, said as briefly as possible. */
interface ModulePattern {
  /** The last part of the names of such linears of every layer, as `mlp.down_proj`; or one linear's full name. */
  readonly name: string;
  /** Whether `name` is the end of the names of such linears in every layer. */
  readonly everyLayer: boolean;
}

const LAYER = /^(?:.*\.)?\d+\.(.+)$/;

/** What follows the layer's number in a module name: `mlp.down_proj`; the whole name where it holds no number. */
function withinLayer(name: string): string {
  return LAYER.exec(name)?.[1] ?? name;
}

/**
 * Says which of `linears` are `chosen`: by their ends (`mlp.down_proj`) where all of that end are chosen, by full name
 * otherwise. In the order of `linears`, without repeats.
 */
export function patternsOf(linears: readonly LinearPlan[], chosen: (linear: LinearPlan) => boolean): ModulePattern[] {
  const mixed = new Set(linears.filter((l) => !chosen(l)).map((l) => withinLayer(l.name)));
  const names = new Map<string, boolean>();
  for (const linear of linears) {
    if (!chosen(linear)) continue;
    const end = withinLayer(linear.name);
    const everyLayer = end !== linear.name && !mixed.has(end);
    names.set(everyLayer ? end : linear.name, everyLayer);
  }
  return [...names].map(([name, everyLayer]) => ({ name, everyLayer }));
}

/** The modules into which vLLM and SGLang fuse others, under whose names alone they ask for settings; by the first of those. */
const FUSED = [["self_attn.q_proj", "self_attn.qkv_proj"], ["mlp.gate_proj", "mlp.gate_up_proj"]] as const;

/** The same patterns, and those of the fused modules of which they say the parts. Siblings are always treated alike. */
export function withFused(patterns: readonly ModulePattern[]): ModulePattern[] {
  return patterns.flatMap((pattern) => {
    const fused = FUSED.find(([first]) => pattern.name.endsWith(first));
    return fused === undefined ? [pattern] : [pattern, { ...pattern, name: pattern.name.slice(0, -fused[0].length) + fused[1] }];
  });
}

/** A regular expression (Python's, matched from the start of the name) for the modules of a pattern. */
export function patternRegex({ name, everyLayer }: ModulePattern): string {
  const escaped = name.replaceAll(/[.\\^$*+?()[\]{}|]/g, "\\$&");
  return everyLayer ? `.*\\.${escaped}$` : `^${escaped}$`;
}
