import { openModel } from "#src/pipeline/model.js";
import { openFolder } from "#src/source/folder.js";

/** Bits that a checkpoint spends on a weight of the original's linears, all their tensors counted, and also those that stayed as they were. */
export async function bitsAWeightOf(original: string, folder: string): Promise<number> {
  const sources = [await openFolder(original), await openFolder(folder)] as const;
  try {
    const { decoder } = await openModel(sources[0]);
    const { checkpoint } = await openModel(sources[1]);
    const linears = Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, 1).flatMap((stage) => stage.linears)).flat();
    const modules = new Set(linears.map(({ name }) => name));
    let bytes = 0;
    for (const [name, { start, end }] of checkpoint.tensors) {
      const at = name.lastIndexOf(".");
      if (modules.has(name.slice(0, at)) && name.slice(at + 1) !== "bias") bytes += end - start;
    }
    return (8 * bytes) / linears.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
  } finally {
    for (const source of sources) await source.close();
  }
}
