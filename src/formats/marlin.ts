import type { LinearPlan, Note } from "./format.js";

/** What vLLM's Marlin kernels, its fast ones on NVIDIA GPUs, ask of a linear's channels. */
export function marlinNotes({ outFeatures, inFeatures }: Pick<LinearPlan, "outFeatures" | "inFeatures">): Note[] {
  const found: Note[] = [];
  const note = (side: string, multiple: number, channels: number): void => {
    if (channels % multiple === 0) return;
    found.push({ program: "vLLM", loads: "perhaps", text: `vLLM's Marlin kernel takes ${side} channels in multiples of ${multiple}, and it has ${channels}` });
  };
  note("input", 128, inFeatures);
  note("output", 64, outFeatures);
  return found;
}
