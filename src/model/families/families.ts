import type { Family } from "./family.js";
import { gemma3Text } from "./gemma3-text.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";

/** Every architecture that can be computed, by its `model_type`. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map(
  [llama, mistral, qwen2, qwen3, gemma3Text].map((family) => [family.modelType, family]),
);
