/** What llama.cpp computes for one of its architectures, as far as it differs between them (src/models/*.cpp there, v0.5.0). */
export interface Architecture {
  /** general.architecture, and the prefix of its keys. */
  readonly name: string;
  /** Its rope turns neighbouring rows of q and k, where transformers turns rows half a head apart. */
  readonly turnsNeighbours: boolean;
  readonly activation: "silu" | "gelu_tanh";
  /** The linears whose biases it adds. */
  readonly biases: { readonly qkv: boolean; readonly o: boolean; readonly mlp: boolean };
  /** It reads rope_freqs.weight, a divisor for each frequency. */
  readonly readsRopeFactors: boolean;
  /** It has sliding layers, in a pattern: one full layer after some sliding ones, these with a rope of their own. */
  readonly slides: boolean;
}

const llama: Architecture = {
  name: "llama", turnsNeighbours: true, activation: "silu", biases: { qkv: true, o: true, mlp: true }, readsRopeFactors: true, slides: false,
};

const qwen2: Architecture = {
  name: "qwen2", turnsNeighbours: false, activation: "silu", biases: { qkv: true, o: false, mlp: false }, readsRopeFactors: false, slides: false,
};

const qwen3: Architecture = { ...qwen2, name: "qwen3" };

const gemma3: Architecture = { ...qwen2, name: "gemma3", activation: "gelu_tanh", slides: true };

/** llama.cpp's architecture of each family of decoders. */
export const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map([
  ["llama", llama], ["mistral", llama], ["qwen2", qwen2], ["qwen3", qwen3], ["gemma3_text", gemma3],
]);
