import type { Program } from "../formats/format.js";

/** What the lines by which a checkpoint is loaded depend on. */
export interface Loaded {
  /** `org/name` on the Hub, or the path of a folder. */
  readonly id: string;
  /** The checkpoint is on the Hub, not in a folder. */
  readonly onHub: boolean;
  readonly format: string;
  readonly symmetric: boolean;
}

/** What transformers needs beside itself for each format that it reads. */
const PACKAGES: Readonly<Record<string, string>> = { gptq: "optimum gptqmodel", awq: "gptqmodel", "compressed-tensors": "compressed-tensors" };

/** How each program loads a checkpoint, in Markdown. */
export const LOADING: Readonly<Record<Program, (loaded: Loaded) => string>> = {
  transformers: ({ id, format, symmetric }) => {
    // Seen with transformers 5.24 and compressed-tensors 0.20.
    const unpack = format === "compressed-tensors" && !symmetric;
    return `${fenced("sh", `pip install transformers accelerate ${PACKAGES[format]}`)}

${fenced("python", `from transformers import AutoModelForCausalLM, AutoTokenizer${unpack ? ", CompressedTensorsConfig" : ""}

model = AutoModelForCausalLM.from_pretrained(${quoted(id)}, device_map="auto"${unpack ? ", quantization_config=CompressedTensorsConfig(dequantize=True)" : ""})
tokenizer = AutoTokenizer.from_pretrained(${quoted(id)})`)}`;
  },
  GPTQModel: ({ id }) => fenced("python", `from gptqmodel import GPTQModel

model = GPTQModel.load(${quoted(id)})`),
  vLLM: ({ id }) => fenced("sh", `vllm serve ${id}`),
  "mlx-lm": ({ id }) => fenced("sh", `pip install mlx-lm
mlx_lm.generate --model ${id} --prompt "Once upon a time"`),
  // What could be a repo's name is one to it.
  "transformers.js": ({ id, onHub }) => `${fenced("sh", "npm install @huggingface/transformers")}

${fenced("js", `import { pipeline } from "@huggingface/transformers";

const generate = await pipeline("text-generation", ${quoted(onHub || /^[./]/.test(id) ? id : `./${id}`)});
console.log(await generate("Once upon a time", { max_new_tokens: 64 }));`)}`,
  "llama.cpp": ({ id, onHub }) => {
    const folder = onHub ? id.replace(/^.*\//, "") : id;
    return `In a clone of llama.cpp. The converter unpacks the weights: the file is as large as the original's, until \`llama-quantize\` makes it smaller.

${fenced("sh", `${onHub ? `hf download ${id} --local-dir ${folder}\n` : ""}python convert_hf_to_gguf.py ${folder} --outtype f16 --outfile ${onHub ? folder : "model"}.gguf`)}`;
  },
};

function fenced(language: string, code: string): string {
  return `\`\`\`${language}\n${code}\n\`\`\``;
}

function quoted(id: string): string {
  return JSON.stringify(id);
}
