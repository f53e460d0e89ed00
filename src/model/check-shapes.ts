import { InputError } from "../errors.js";
import type { Decoder } from "./decoder.js";
import { finalNormStage } from "./head.js";

/**
 * Checks, before anything is computed, that a checkpoint has every tensor that the decoder needs, in the shape that config.json
 * implies. Tensors beyond those, as the rotary buffers of old checkpoints, are no error.
 *
 * @param checkpoint its name, for messages
 * @throws InputError naming the tensor, and the shapes expected and found
 */
export function checkShapes(
  decoder: Decoder,
  tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>,
  checkpoint: string,
): void {
  const table = [decoder.vocabSize, decoder.hiddenSize];
  check(decoder.embedding.tensor, table);
  for (let layer = 0; layer < decoder.layers; layer++) decoder.stages(layer, 1).forEach(checkStage);
  checkStage(finalNormStage(decoder));
  check(decoder.lmHead.tensor, table);

  function checkStage({ graph, weights }: ReturnType<Decoder["stages"]>[number]): void {
    for (const { name, shape } of graph.weights) {
      const source = weights.get(name);
      if (source && "tensor" in source) check(source.tensor, shape);
    }
  }

  function check(name: string, shape: readonly number[]): void {
    const found = tensors.get(name)?.shape;
    if (!found) throw new InputError(`${checkpoint}: tensor ${name} is missing; config.json implies [${shape.join(", ")}]`);
    if (found.length !== shape.length || found.some((size, i) => size !== shape[i])) {
      throw new InputError(`${checkpoint}: tensor ${name} has shape [${found.join(", ")}], but config.json implies [${shape.join(", ")}]`);
    }
  }
}
