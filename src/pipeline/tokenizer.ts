import { loadTokenizer, type Tokenizer } from "../calibration/tokenizer.js";
import type { Checkpoint } from "../source/checkpoint.js";

/** The tokenizer that lies beside a checkpoint's weights. Throws `InputError` where there is none that can be read. */
export async function tokenizerOf(checkpoint: Checkpoint): Promise<Tokenizer> {
  const text = async (name: string): Promise<string | undefined> => (checkpoint.files.has(name) ? new TextDecoder().decode(await checkpoint.readFile(name)) : undefined);
  return loadTokenizer(await text("tokenizer.json"), await text("tokenizer_config.json"));
}
