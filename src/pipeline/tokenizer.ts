import { loadTokenizer, type Tokenizer } from "../calibration/tokenizer.js";
import type { Checkpoint } from "../source/checkpoint.js";

/** The tokenizer that lies beside a checkpoint's weights. Throws `InputError` where there is none that can be read. */
export async function tokenizerOf(checkpoint: Checkpoint): Promise<Tokenizer> {
  const text = async (name: string): Promise<string | undefined> => {
    const size = checkpoint.files.get(name);
    return size === undefined ? undefined : new TextDecoder().decode(await checkpoint.source.read(name, 0, size));
  };
  return loadTokenizer(await text("tokenizer.json"), await text("tokenizer_config.json"));
}
